"""What each family's checkpoint holds: its config.json and its tensors, as the
hub has them. FAMILIES is the table; its functions take a Size.

Names and shapes are those of the published checkpoints; the dimensions under
`released` are of the model named beside them.
"""

import dataclasses

from tensors import BIAS, NORM, SCALES, WEIGHT, Tensor


@dataclasses.dataclass
class Size:
    """Dimensions, and how they are stored."""
    layers: int = 2
    hidden: int = 32
    heads: int = 4
    kv_heads: int = 2
    head_dim: int = 8
    vocab: int = 128
    experts: int = 8
    top_k: int = 2
    expert_width: int = 24
    dense_width: int = 44
    shared: int = 0        # shared experts
    dense_layers: int = 0  # dense layers before the first with experts
    q_rank: int = 0
    kv_rank: int = 16
    nope_dim: int = 12
    rope_dim: int = 8
    value_dim: int = 10
    groups: int = 1
    groups_kept: int = 1
    fp8_block: int = 16
    dtype: str = "BF16"    # of what is not quantised
    quantised: bool = False
    fused: bool = False


class Plan:
    """Collects tensors; prefixes are opened by the caller."""

    def __init__(self, size, fp8=False):
        self.size = size
        self.tensors = []
        self._fp8 = fp8

    def add(self, name, shape, kind=WEIGHT, fan_in=None, dtype=None):
        self.tensors.append(Tensor(name, tuple(shape), dtype or self.size.dtype,
                                   kind, fan_in or shape[-1]))

    def linear(self, name, rows, columns, bias=False):
        """[rows, columns] `name`.weight, in fp8 blocks if those are asked for."""
        if self._fp8:
            block = self.size.fp8_block
            self.add(name + ".weight", (rows, columns), dtype="F8_E4M3")
            self.add(name + ".weight_scale_inv", (-(-rows // block), -(-columns // block)),
                     SCALES, columns, "F32")
        else:
            self.add(name + ".weight", (rows, columns))
        if bias:
            self.add(name + ".bias", (rows,), BIAS)

    def norm(self, name, width, suffix=".weight", bias=False):
        self.add(name + suffix, (width,), NORM)
        if bias:
            self.add(name + ".bias", (width,), BIAS)

    def block(self, prefix, names, width):
        """A feed-forward block; `names` are gate, up, down."""
        gate, up, down = names
        self.linear(prefix + gate, width, self.size.hidden)
        self.linear(prefix + up, width, self.size.hidden)
        self.linear(prefix + down, self.size.hidden, width)

    def experts(self, prefix, names):
        """All routed experts below `prefix`, one by one or fused."""
        s = self.size
        if s.fused:
            self.add(prefix + "gate_up_proj", (s.experts, 2 * s.expert_width, s.hidden))
            self.add(prefix + "down_proj", (s.experts, s.hidden, s.expert_width))
            return
        for expert in range(s.experts):
            self.block(f"{prefix}{expert}.", names, s.expert_width)

    def attention(self, prefix, qkv_bias=False, output_bias=False):
        s = self.size
        query, shared = s.heads * s.head_dim, s.kv_heads * s.head_dim
        self.linear(prefix + "q_proj", query, s.hidden, qkv_bias)
        self.linear(prefix + "k_proj", shared, s.hidden, qkv_bias)
        self.linear(prefix + "v_proj", shared, s.hidden, qkv_bias)
        self.linear(prefix + "o_proj", s.hidden, query, output_bias)

    def decoder(self, attention=None, prefix="", head=True, norm_bias=False, head_bias=False,
                **biases):
        """All but the feed-forward blocks under Llama's names. Yields each
        layer's number and prefix once its norms and attention are there:
        `attention`(plan, prefix), or queries, keys and values with `biases`."""
        s = self.size
        self.add(prefix + "model.embed_tokens.weight", (s.vocab, s.hidden), fan_in=1)
        self.norm(prefix + "model.norm", s.hidden, bias=norm_bias)
        if head:
            self.add(prefix + "lm_head.weight", (s.vocab, s.hidden))
        if head_bias:
            self.add(prefix + "lm_head.bias", (s.vocab,), BIAS)
        for layer in range(s.layers):
            p = f"{prefix}model.layers.{layer}."
            for name in ("input_layernorm", "post_attention_layernorm"):
                self.norm(p + name, s.hidden, bias=norm_bias)
            if attention:
                attention(self, p)
            else:
                self.attention(p + "self_attn.", **biases)
            yield layer, p

    def routed(self, prefix, names):
        """A router called gate and its experts."""
        self.linear(prefix + "gate", self.size.experts, self.size.hidden)
        self.experts(prefix + "experts.", names)


PLAIN = ("gate_proj", "up_proj", "down_proj")
NUMBERED = ("w1", "w3", "w2")
TORCH_DTYPES = {"F32": "float32", "BF16": "bfloat16", "F16": "float16"}


def common(size, architecture, model_type, **more):
    """Keys that most families share."""
    config = {
        "architectures": [architecture], "model_type": model_type,
        "vocab_size": size.vocab, "hidden_size": size.hidden,
        "num_hidden_layers": size.layers, "num_attention_heads": size.heads,
        "num_key_value_heads": size.kv_heads, "hidden_act": "silu",
        "max_position_embeddings": 4096, "rms_norm_eps": 1e-5,
        "rope_theta": 10000.0, "bos_token_id": 1, "eos_token_id": 2,
        "tie_word_embeddings": False, "torch_dtype": TORCH_DTYPES[size.dtype],
    }
    config.update(more)
    return config


def mixtral(s):
    plan = Plan(s)
    for _, p in plan.decoder():
        plan.routed(p + ("mlp." if s.fused else "block_sparse_moe."), NUMBERED)
    return common(s, "MixtralForCausalLM", "mixtral", head_dim=s.head_dim,
                  intermediate_size=s.expert_width, num_local_experts=s.experts,
                  num_experts_per_tok=s.top_k, rope_theta=1e6, sliding_window=None), plan


def llama_plan(s):
    """A dense decoder under Llama's names."""
    plan = Plan(s)
    for _, p in plan.decoder():
        plan.block(p + "mlp.", PLAIN, s.dense_width)
    return plan


def mistral(s):
    return common(s, "MistralForCausalLM", "mistral", head_dim=s.head_dim,
                  intermediate_size=s.dense_width, sliding_window=None), llama_plan(s)


def llama(s):
    return common(s, "LlamaForCausalLM", "llama", head_dim=s.head_dim, mlp_bias=False,
                  attention_bias=False, intermediate_size=s.dense_width), llama_plan(s)


def deepseek_mlp(plan, prefix, layer):
    """The feed-forward half of a layer of any DeepSeek."""
    s = plan.size
    if layer < s.dense_layers:
        plan.block(prefix, PLAIN, s.dense_width)
        return
    plan.add(prefix + "gate.weight", (s.experts, s.hidden))
    plan.experts(prefix + "experts.", PLAIN)
    if s.shared:
        plan.block(prefix + "shared_experts.", PLAIN, s.shared * s.expert_width)


def deepseek_keys(s, **more):
    return dict(intermediate_size=s.dense_width, moe_intermediate_size=s.expert_width,
                first_k_dense_replace=s.dense_layers, moe_layer_freq=1,
                n_routed_experts=s.experts, n_shared_experts=s.shared,
                num_experts_per_tok=s.top_k, attention_bias=False, **more)


def deepseek(s):
    plan = Plan(s)
    for layer, p in plan.decoder():
        deepseek_mlp(plan, p + "mlp.", layer)
    return common(s, "DeepseekForCausalLM", "deepseek", **deepseek_keys(
        s, norm_topk_prob=False, scoring_func="softmax", rope_scaling=None)), plan


def latent_attention(plan, layer):
    """Multi-head latent attention of DeepSeek-V2 and V3."""
    s, prefix = plan.size, layer + "self_attn."
    query = s.heads * (s.nope_dim + s.rope_dim)
    if s.q_rank:
        plan.linear(prefix + "q_a_proj", s.q_rank, s.hidden)
        plan.norm(prefix + "q_a_layernorm", s.q_rank)
        plan.linear(prefix + "q_b_proj", query, s.q_rank)
    else:
        plan.linear(prefix + "q_proj", query, s.hidden)
    plan.linear(prefix + "kv_a_proj_with_mqa", s.kv_rank + s.rope_dim, s.hidden)
    plan.norm(prefix + "kv_a_layernorm", s.kv_rank)
    plan.linear(prefix + "kv_b_proj", s.heads * (s.nope_dim + s.value_dim), s.kv_rank)
    plan.linear(prefix + "o_proj", s.hidden, s.heads * s.value_dim)


def latent_keys(s):
    return dict(q_lora_rank=s.q_rank or None, kv_lora_rank=s.kv_rank,
                qk_nope_head_dim=s.nope_dim, qk_rope_head_dim=s.rope_dim,
                v_head_dim=s.value_dim, num_key_value_heads=s.heads,
                n_group=s.groups, topk_group=s.groups_kept)


def deepseek_v2(s):
    plan = Plan(s)
    for layer, p in plan.decoder(latent_attention):
        deepseek_mlp(plan, p + "mlp.", layer)
    method = "group_limited_greedy" if s.groups > 1 else "greedy"
    return common(s, "DeepseekV2ForCausalLM", "deepseek_v2", **{
        **deepseek_keys(s, norm_topk_prob=False, scoring_func="softmax",
                        topk_method=method, routed_scaling_factor=1.0,
                        rope_scaling=None), **latent_keys(s)}), plan


def deepseek_v3(s):
    """Its last tensors are those of a layer for predicting two tokens, which
    takes no part in the model."""
    plan = Plan(s, fp8=s.quantised)
    for layer, p in plan.decoder(latent_attention):
        deepseek_mlp(plan, p + "mlp.", layer)
        if layer >= s.dense_layers:
            plan.add(p + "mlp.gate.e_score_correction_bias", (s.experts,), BIAS, dtype="F32")
    p = f"model.layers.{s.layers}."
    for name in ("enorm", "hnorm", "shared_head.norm"):
        plan.norm(p + name, s.hidden)
    plan.add(p + "eh_proj.weight", (s.hidden, 2 * s.hidden))
    config = common(s, "DeepseekV3ForCausalLM", "deepseek_v3", **{
        **deepseek_keys(s, norm_topk_prob=True, scoring_func="sigmoid",
                        topk_method="noaux_tc", routed_scaling_factor=2.5,
                        num_nextn_predict_layers=1, rope_scaling=None), **latent_keys(s)})
    if s.quantised:
        config["quantization_config"] = {
            "activation_scheme": "dynamic", "fmt": "e4m3", "quant_method": "fp8",
            "weight_block_size": [s.fp8_block, s.fp8_block]}
    return config, plan


def qwen2_moe(s):
    plan = Plan(s)
    for _, p in plan.decoder(qkv_bias=True):
        plan.routed(p + "mlp.", PLAIN)
        plan.block(p + "mlp.shared_expert.", PLAIN, s.shared * s.expert_width)
        plan.linear(p + "mlp.shared_expert_gate", 1, s.hidden)
    return common(s, "Qwen2MoeForCausalLM", "qwen2_moe", intermediate_size=s.dense_width,
                  moe_intermediate_size=s.expert_width,
                  shared_expert_intermediate_size=s.shared * s.expert_width,
                  num_experts=s.experts, num_experts_per_tok=s.top_k, norm_topk_prob=False,
                  decoder_sparse_step=1, mlp_only_layers=[], use_sliding_window=False), plan


def qwen3_moe(s):
    plan = Plan(s)
    for _, p in plan.decoder():
        plan.norm(p + "self_attn.q_norm", s.head_dim)
        plan.norm(p + "self_attn.k_norm", s.head_dim)
        plan.routed(p + "mlp.", PLAIN)
    return common(s, "Qwen3MoeForCausalLM", "qwen3_moe", head_dim=s.head_dim,
                  intermediate_size=s.dense_width, moe_intermediate_size=s.expert_width,
                  num_experts=s.experts, num_experts_per_tok=s.top_k, norm_topk_prob=True,
                  decoder_sparse_step=1, mlp_only_layers=[], attention_bias=False,
                  rope_scaling=None, sliding_window=None, use_sliding_window=False), plan


def olmoe(s):
    plan = Plan(s)
    for _, p in plan.decoder():
        plan.norm(p + "self_attn.q_norm", s.heads * s.head_dim)
        plan.norm(p + "self_attn.k_norm", s.kv_heads * s.head_dim)
        plan.routed(p + "mlp.", PLAIN)
    return common(s, "OlmoeForCausalLM", "olmoe", intermediate_size=s.expert_width,
                  num_experts=s.experts, num_experts_per_tok=s.top_k, norm_topk_prob=False,
                  clip_qkv=None, attention_bias=False, rope_scaling=None), plan


def phimoe(s):
    plan = Plan(s)
    for _, p in plan.decoder(norm_bias=True, head_bias=True, qkv_bias=True, output_bias=True):
        plan.routed(p + "block_sparse_moe.", NUMBERED)
    pairs = s.head_dim // 2
    return common(s, "PhimoeForCausalLM", "phimoe", intermediate_size=s.expert_width,
                  num_local_experts=s.experts, num_experts_per_tok=s.top_k,
                  attention_bias=True, lm_head_bias=True, router_jitter_noise=0.01,
                  input_jitter_noise=0.01, sliding_window=131072,
                  max_position_embeddings=131072, original_max_position_embeddings=4096,
                  rope_scaling={"type": "longrope", "short_factor": [1.0] * pairs,
                                "long_factor": [4.0] * pairs, "short_mscale": 1.2,
                                "long_mscale": 1.3,
                                "original_max_position_embeddings": 4096}), plan


def gpt_oss(s):
    plan = Plan(s)
    for _, p in plan.decoder(qkv_bias=True, output_bias=True):
        plan.add(p + "self_attn.sinks", (s.heads,), BIAS)
        plan.linear(p + "mlp.router", s.experts, s.hidden, bias=True)
        p += "mlp.experts."
        for name, rows, columns in (("gate_up_proj", 2 * s.expert_width, s.hidden),
                                    ("down_proj", s.hidden, s.expert_width)):
            plan.add(f"{p}{name}_bias", (s.experts, rows), BIAS)
            if s.quantised:
                if columns % 32:
                    raise ValueError(f"MXFP4: {columns} columns of {name} are not "
                                     "a multiple of 32")
                plan.add(f"{p}{name}_blocks", (s.experts, rows, columns // 32, 16), dtype="U8")
                plan.add(f"{p}{name}_scales", (s.experts, rows, columns // 32),
                         SCALES, columns, "U8")
            else:
                plan.add(p + name, (s.experts, columns, rows), fan_in=columns)
    kinds = ["sliding_attention", "full_attention"]
    config = common(s, "GptOssForCausalLM", "gpt_oss", head_dim=s.head_dim,
                    intermediate_size=s.expert_width, num_local_experts=s.experts,
                    num_experts_per_tok=s.top_k, experts_per_token=s.top_k,
                    attention_bias=True, sliding_window=128, swiglu_limit=7.0,
                    rope_theta=150000.0, max_position_embeddings=131072,
                    initial_context_length=4096,
                    layer_types=[kinds[layer % 2] for layer in range(s.layers)],
                    rope_scaling={"rope_type": "yarn", "factor": 32.0, "beta_fast": 32.0,
                                  "beta_slow": 1.0, "truncate": False,
                                  "original_max_position_embeddings": 4096})
    if s.quantised:
        config["quantization_config"] = {
            "quant_method": "mxfp4",
            "modules_to_not_convert": ["model.layers.*.self_attn", "model.layers.*.mlp.router",
                                       "model.embed_tokens", "lm_head"]}
    return config, plan


def llama4_text(s, prefix=""):
    plan = Plan(s)
    for layer, p in plan.decoder(prefix=prefix):
        p += "feed_forward."
        if layer % 2 == 0:
            plan.block(p, PLAIN, s.dense_width)
            continue
        plan.linear(p + "router", s.experts, s.hidden)
        plan.add(p + "experts.gate_up_proj", (s.experts, s.hidden, 2 * s.expert_width),
                 fan_in=s.hidden)
        plan.add(p + "experts.down_proj", (s.experts, s.expert_width, s.hidden),
                 fan_in=s.expert_width)
        plan.block(p + "shared_expert.", PLAIN, s.expert_width)
    return common(s, "Llama4ForCausalLM", "llama4_text", head_dim=s.head_dim,
                  intermediate_size=s.expert_width, intermediate_size_mlp=s.dense_width,
                  num_local_experts=s.experts, num_experts_per_tok=s.top_k,
                  interleave_moe_layer_step=2, attention_bias=False,
                  attention_chunk_size=8192, attn_temperature_tuning=True, attn_scale=0.1,
                  floor_scale=8192, use_qk_norm=True, rope_theta=500000.0,
                  no_rope_layers=[int((layer + 1) % 4 != 0) for layer in range(s.layers)],
                  rope_scaling=None), plan


def llama4(s):
    config, plan = llama4_text(s, "language_model.")
    return {"architectures": ["Llama4ForConditionalGeneration"], "model_type": "llama4",
            "torch_dtype": config["torch_dtype"], "tie_word_embeddings": False,
            "text_config": config}, plan


def dbrx(s):
    plan = Plan(s)
    plan.add("transformer.wte.weight", (s.vocab, s.hidden), fan_in=1)
    plan.norm("transformer.norm_f", s.hidden)
    plan.add("lm_head.weight", (s.vocab, s.hidden))
    for layer in range(s.layers):
        p = f"transformer.blocks.{layer}."
        a = p + "norm_attn_norm."
        plan.norm(a + "norm_1", s.hidden)
        plan.norm(a + "norm_2", s.hidden)
        plan.linear(a + "attn.Wqkv", (s.heads + 2 * s.kv_heads) * s.head_dim, s.hidden)
        plan.linear(a + "attn.out_proj", s.hidden, s.heads * s.head_dim)
        plan.linear(p + "ffn.router.layer", s.experts, s.hidden)
        for name in ("w1", "v1", "w2"):
            plan.add(f"{p}ffn.experts.mlp.{name}", (s.experts * s.expert_width, s.hidden),
                     fan_in=s.expert_width if name == "w2" else s.hidden)
    return {"architectures": ["DbrxForCausalLM"], "model_type": "dbrx",
            "d_model": s.hidden, "n_heads": s.heads, "n_layers": s.layers,
            "max_seq_len": 4096, "vocab_size": s.vocab,
            "attn_config": {"clip_qkv": 8, "kv_n_heads": s.kv_heads, "rope_theta": 500000},
            "ffn_config": {"ffn_hidden_size": s.expert_width, "moe_jitter_eps": 0.01,
                           "moe_num_experts": s.experts, "moe_top_k": s.top_k},
            "tie_word_embeddings": False, "torch_dtype": TORCH_DTYPES[s.dtype]}, plan


def jetmoe_half(plan, prefix, inner, outer):
    """A router and its experts, of the feed-forward part or of the attention."""
    s = plan.size
    plan.linear(prefix + "router.layer", s.experts, s.hidden)
    plan.add(prefix + "input_linear.weight", (s.experts, inner, s.hidden))
    plan.add(prefix + "output_linear.weight", (s.experts, s.hidden, outer))
    plan.add(prefix + "bias", (s.hidden,), BIAS)


def mixture_attention(plan, layer):
    shared = plan.size.kv_heads * plan.size.head_dim
    jetmoe_half(plan, layer + "self_attention.experts.", shared, shared)
    plan.linear(layer + "self_attention.kv_proj", 2 * shared, plan.size.hidden)


def jetmoe(s):
    plan = Plan(s)
    for _, p in plan.decoder(mixture_attention, head=False):
        jetmoe_half(plan, p + "mlp.", 2 * s.expert_width, s.expert_width)
    config = common(s, "JetMoeForCausalLM", "jetmoe", activation_function="silu",
                    intermediate_size=s.expert_width, kv_channels=s.head_dim,
                    num_local_experts=s.experts, num_experts_per_tok=s.top_k,
                    tie_word_embeddings=True)
    del config["num_attention_heads"], config["hidden_act"]  # top_k * kv_heads
    return config, plan


def grok1(s):
    """hpcai-tech's layout."""
    plan = Plan(s)
    plan.add("model.embed_tokens.weight", (s.vocab, s.hidden))
    plan.norm("model.norm", s.hidden, ".scale")
    for layer in range(s.layers):
        p = f"model.layers.{layer}."
        for name in ("pre_attn", "post_attn", "pre_moe", "post_moe"):
            plan.norm(f"{p}{name}_norm", s.hidden, ".scale")
        plan.attention(p + "attn.")
        plan.routed(p + "moe_block.", ("linear", "linear_v", "linear_1"))
    config = grok1_config(s, "Grok1ModelForCausalLM")
    config["auto_map"] = {
        "AutoModelForCausalLM": "modeling_grok1.Grok1ModelForCausalLM"}
    return config, plan


def grok1_config(s, architecture):
    config = common(s, architecture, "", intermediate_size=s.expert_width,
                    num_experts=s.experts, num_experts_per_tok=s.top_k,
                    attn_output_multiplier=s.head_dim ** -0.5,
                    embedding_multiplier_scale=78.38367176906169,
                    output_multiplier_scale=0.5773502691896257, max_attn_value=30.0,
                    tie_word_embeddings=True)
    for absent in ("model_type", "hidden_act", "rope_theta"):
        del config[absent]
    return config


@dataclasses.dataclass
class Family:
    make: callable
    small: dict
    released: dict
    can_fuse: bool = False
    quantisation: str = ""


def row(make, small=None, released=None, **more):
    return Family(make, small or {}, released or {}, **more)


LLAMA4 = (dict(layers=4, head_dim=12, top_k=1), dict(
    layers=48, hidden=5120, heads=40, kv_heads=8, head_dim=128, vocab=202048, experts=128,
    top_k=1, expert_width=8192, dense_width=16384))

FAMILIES = {
    # Mixtral 8x7B
    "mixtral": row(mixtral, {}, dict(
        layers=32, hidden=4096, heads=32, kv_heads=8, head_dim=128, vocab=32000, experts=8,
        top_k=2, expert_width=14336), can_fuse=True),
    # Mistral 7B
    "mistral": row(mistral, {}, dict(
        layers=32, hidden=4096, heads=32, kv_heads=8, head_dim=128, vocab=32000,
        dense_width=14336)),
    # Llama 2 7B
    "llama": row(llama, {}, dict(
        layers=32, hidden=4096, heads=32, kv_heads=32, head_dim=128, vocab=32000,
        dense_width=11008)),
    # DeepSeekMoE 16B
    "deepseek": row(deepseek, dict(layers=3, experts=12, top_k=3, shared=2, dense_layers=1), dict(
        layers=28, hidden=2048, heads=16, kv_heads=16, head_dim=128, vocab=102400, experts=64,
        top_k=6, expert_width=1408, dense_width=10944, shared=2, dense_layers=1)),
    # DeepSeek-V2-Lite
    "deepseek_v2": row(deepseek_v2, dict(
        layers=3, experts=12, top_k=3, shared=2, dense_layers=1, q_rank=24, groups=4,
        groups_kept=2), dict(
        layers=27, hidden=2048, heads=16, kv_heads=16, vocab=102400, experts=64, top_k=6,
        expert_width=1408, dense_width=10944, shared=2, dense_layers=1, kv_rank=512,
        nope_dim=128, rope_dim=64, value_dim=128)),
    # DeepSeek-V3
    "deepseek_v3": row(deepseek_v3, dict(
        layers=3, experts=16, top_k=4, shared=1, dense_layers=1, q_rank=24, groups=4,
        groups_kept=2), dict(
        layers=61, hidden=7168, heads=128, kv_heads=128, vocab=129280, experts=256, top_k=8,
        expert_width=2048, dense_width=18432, shared=1, dense_layers=3, q_rank=1536, kv_rank=512,
        nope_dim=128, rope_dim=64, value_dim=128, groups=8, groups_kept=4, fp8_block=128),
        quantisation="fp8"),
    # Qwen1.5-MoE-A2.7B
    "qwen2_moe": row(qwen2_moe, dict(top_k=3, shared=2), dict(
        layers=24, hidden=2048, heads=16, kv_heads=16, head_dim=128, vocab=151936, experts=60,
        top_k=4, expert_width=1408, dense_width=5632, shared=4), can_fuse=True),
    # Qwen3-30B-A3B
    "qwen3_moe": row(qwen3_moe, dict(top_k=3, head_dim=16), dict(
        layers=48, hidden=2048, heads=32, kv_heads=4, head_dim=128, vocab=151936, experts=128,
        top_k=8, expert_width=768, dense_width=6144), can_fuse=True),
    # OLMoE-1B-7B
    "olmoe": row(olmoe, dict(top_k=3), dict(
        layers=16, hidden=2048, heads=16, kv_heads=16, head_dim=128, vocab=50304, experts=64,
        top_k=8, expert_width=1024), can_fuse=True),
    # Phi-3.5-MoE
    "phimoe": row(phimoe, {}, dict(
        layers=32, hidden=4096, heads=32, kv_heads=8, head_dim=128, vocab=32064, experts=16,
        top_k=2, expert_width=6400)),
    # gpt-oss-20b
    "gpt_oss": row(gpt_oss, dict(hidden=64, head_dim=24, expert_width=32, top_k=3), dict(
        layers=24, hidden=2880, heads=64, kv_heads=8, head_dim=64, vocab=201088, experts=32,
        top_k=4, expert_width=2880), quantisation="mxfp4"),
    # Llama 4 Maverick
    "llama4_text": row(llama4_text, *LLAMA4),
    "llama4": row(llama4, *LLAMA4),
    # DBRX
    "dbrx": row(dbrx, dict(top_k=3), dict(
        layers=40, hidden=6144, heads=48, kv_heads=8, head_dim=128, vocab=100352, experts=16,
        top_k=4, expert_width=10752)),
    # JetMoE 8B
    "jetmoe": row(jetmoe, dict(head_dim=12), dict(
        layers=24, hidden=2048, kv_heads=16, head_dim=128, vocab=32000, experts=8, top_k=2,
        expert_width=5632)),
    # Grok-1
    "grok1": row(grok1, {}, dict(
        layers=64, hidden=6144, heads=48, kv_heads=8, head_dim=128, vocab=131072, experts=8,
        top_k=2, expert_width=32768)),
}
