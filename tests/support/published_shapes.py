"""config.json of public models, cut to the keys that are about their shape, written out from the repositories."""

from __future__ import annotations

from typing import Any


def _shape(kind: str, layers: int, hidden: int, heads: int, kv_heads: int, size: int, vocabulary: int,
           **others: Any) -> dict[str, Any]:
    return {"model_type": kind, "num_hidden_layers": layers, "hidden_size": hidden, "num_attention_heads": heads,
            "num_key_value_heads": kv_heads, "intermediate_size": size, "vocab_size": vocabulary, **others}


_GRANITE4 = {"tie_word_embeddings": True, "mamba_d_head": 64, "mamba_n_groups": 1, "mamba_d_state": 128,
             "mamba_d_conv": 4, "layer_types": ["attention" if i in (5, 15, 25, 35) else "mamba" for i in range(40)]}
_V3 = {"q_lora_rank": 1536, "kv_lora_rank": 512, "qk_rope_head_dim": 64, "qk_nope_head_dim": 128, "v_head_dim": 128,
       "n_shared_experts": 1, "moe_layer_freq": 1}
_INDEXER = {"index_head_dim": 128, "index_n_heads": 64, "index_topk": 2048}
_MXFP4 = {"quant_method": "mxfp4", "modules_to_not_convert": [
    "model.layers.*.self_attn", "model.layers.*.mlp.router", "model.embed_tokens", "lm_head"]}
_AWQ = {"quant_method": "awq", "bits": 4, "group_size": 128, "zero_point": True, "version": "gemm"}

SHAPES: dict[str, dict[str, Any]] = {
    "google/gemma-2b": _shape("gemma", 18, 2048, 8, 1, 16384, 256000, head_dim=256),
    "google/gemma-7b": _shape("gemma", 28, 3072, 16, 16, 24576, 256000, head_dim=256),
    "google/gemma-2-2b": _shape("gemma2", 26, 2304, 8, 4, 9216, 256000, head_dim=256),
    "google/gemma-2-9b": _shape("gemma2", 42, 3584, 16, 8, 14336, 256000, head_dim=256),
    "google/gemma-2-27b": _shape("gemma2", 46, 4608, 32, 16, 36864, 256000, head_dim=128),
    "google/gemma-3-270m": _shape("gemma3_text", 18, 640, 4, 1, 2048, 262144, head_dim=256, sliding_window=512),
    "google/gemma-3-1b-it": _shape("gemma3_text", 26, 1152, 4, 1, 6912, 262144, head_dim=256, sliding_window=512,
                                   sliding_window_pattern=6),
    "google/gemma-3-4b-it": {"model_type": "gemma3", "text_config": {
        "model_type": "gemma3_text", "hidden_size": 2560, "intermediate_size": 10240, "num_hidden_layers": 34,
        "sliding_window": 1024}},
    "CohereForAI/c4ai-command-r-v01": _shape("cohere", 40, 8192, 64, 64, 22528, 256000),
    "CohereForAI/aya-expanse-8b": _shape("cohere", 32, 4096, 32, 8, 14336, 256000),
    "CohereForAI/c4ai-command-r7b-12-2024": _shape("cohere2", 32, 4096, 32, 8, 14336, 256000),
    "CohereForAI/c4ai-command-a-03-2025": _shape("cohere2", 64, 12288, 96, 8, 36864, 256000, head_dim=128),
    "allenai/OLMo-2-1124-7B": _shape("olmo2", 32, 4096, 32, 32, 11008, 100352),
    "allenai/OLMo-2-1124-13B": _shape("olmo2", 40, 5120, 40, 40, 13824, 100352),
    "allenai/OLMoE-1B-7B-0924": _shape("olmoe", 16, 2048, 16, 16, 1024, 50304, num_experts=64, num_experts_per_tok=8),
    "microsoft/Phi-3-mini-4k-instruct": _shape("phi3", 32, 3072, 32, 32, 8192, 32064, sliding_window=2047),
    "microsoft/Phi-3-medium-4k-instruct": _shape("phi3", 40, 5120, 40, 10, 17920, 32064, sliding_window=2047),
    "microsoft/Phi-4-mini-instruct": _shape("phi3", 32, 3072, 24, 8, 8192, 200064, tie_word_embeddings=True),
    "bigcode/starcoder2-3b": _shape("starcoder2", 30, 3072, 24, 2, 12288, 49152, use_bias=True, sliding_window=4096),
    "nvidia/Nemotron-4-340B-Base": _shape("nemotron", 96, 18432, 96, 8, 73728, 256000),
    "ibm-granite/granite-3.1-8b-base": _shape("granite", 40, 4096, 32, 8, 12800, 49155, tie_word_embeddings=True),
    "ibm-granite/granite-3.1-3b-a800m-base": _shape(
        "granitemoe", 32, 1536, 24, 8, 512, 49155, num_local_experts=40, num_experts_per_tok=8,
        tie_word_embeddings=True),
    "ibm-granite/granite-4.0-h-small": _shape(
        "granitemoehybrid", 40, 4096, 32, 8, 768, 100352, mamba_n_heads=128, num_local_experts=72,
        num_experts_per_tok=10, shared_intermediate_size=1536, **_GRANITE4),
    "ibm-granite/granite-4.0-h-tiny": _shape(
        "granitemoehybrid", 40, 1536, 12, 4, 512, 100352, mamba_n_heads=48, num_local_experts=64,
        num_experts_per_tok=6, shared_intermediate_size=1024, **_GRANITE4),
    "ibm-ai-platform/Bamba-9B-v1": _shape(
        "bamba", 32, 4096, 32, 8, 14336, 128256, attn_layer_indices=[9, 18, 27], mamba_n_heads=128, mamba_d_head=64,
        mamba_n_groups=1, mamba_d_state=128, mamba_d_conv=4),
    "Qwen/Qwen1.5-MoE-A2.7B": _shape(
        "qwen2_moe", 24, 2048, 16, 16, 5632, 151936, num_experts=60, num_experts_per_tok=4, decoder_sparse_step=1,
        moe_intermediate_size=1408, shared_expert_intermediate_size=5632),
    "Qwen/Qwen2-57B-A14B": _shape(
        "qwen2_moe", 28, 3584, 28, 4, 18944, 151936, num_experts=64, num_experts_per_tok=8, decoder_sparse_step=1,
        moe_intermediate_size=2560, shared_expert_intermediate_size=20480),
    "Qwen/Qwen3-Next-80B-A3B-Instruct": _shape(
        "qwen3_next", 48, 2048, 16, 2, 5120, 151936, head_dim=256, full_attention_interval=4, num_experts=512,
        num_experts_per_tok=10, moe_intermediate_size=512, shared_expert_intermediate_size=512,
        linear_num_key_heads=16, linear_key_head_dim=128, linear_num_value_heads=32, linear_value_head_dim=128,
        linear_conv_kernel_dim=4),
    "ByteDance-Seed/Seed-OSS-36B-Base": _shape("seed_oss", 64, 5120, 80, 8, 27648, 155136, head_dim=128,
                                               attention_bias=True, attention_out_bias=False),
    "HuggingFaceTB/SmolLM3-3B": _shape("smollm3", 36, 2048, 16, 4, 11008, 128256),
    "mistralai/Mistral-Nemo-Base-2407": _shape("mistral", 40, 5120, 32, 8, 14336, 131072, head_dim=128,
                                               sliding_window=None),
    "mistralai/Codestral-22B-v0.1": _shape("mistral", 56, 6144, 48, 8, 16384, 32768, sliding_window=None),
    "mistralai/Mistral-Large-Instruct-2407": _shape("mistral", 88, 12288, 96, 8, 28672, 32768, sliding_window=None),
    "mistralai/Ministral-8B-Instruct-2410": _shape("mistral", 36, 4096, 32, 8, 12288, 131072, head_dim=128,
                                                   sliding_window=32768),
    "deepseek-ai/DeepSeek-V2": _shape(
        "deepseek_v2", 60, 5120, 128, 128, 12288, 102400, q_lora_rank=1536, kv_lora_rank=512, qk_rope_head_dim=64,
        qk_nope_head_dim=128, v_head_dim=128, moe_intermediate_size=1536, n_routed_experts=160, n_shared_experts=2,
        num_experts_per_tok=6, first_k_dense_replace=1, moe_layer_freq=1),
    "01-ai/Yi-34B": _shape("llama", 60, 7168, 56, 8, 20480, 64000),
    "TinyLlama/TinyLlama-1.1B-Chat-v1.0": _shape("llama", 22, 2048, 32, 4, 5632, 32000),
    "zai-org/GLM-4-9B-0414": _shape("glm4", 40, 4096, 32, 2, 13696, 151552, head_dim=128, attention_bias=True),
    "allenai/Olmo-3-1025-7B": _shape("olmo3", 32, 4096, 32, 32, 11008, 100278, sliding_window=4096),
    "PrimeIntellect/INTELLECT-3": _shape(
        "glm4_moe", 46, 4096, 96, 8, 10944, 151552, head_dim=128, attention_bias=True, use_qk_norm=False,
        n_routed_experts=128, n_shared_experts=1, num_experts_per_tok=8, moe_intermediate_size=1408,
        first_k_dense_replace=1),
    "LGAI-EXAONE/EXAONE-4.0-32B": _shape(
        "exaone4", 64, 5120, 40, 8, 27392, 102400, head_dim=128, sliding_window=4096, sliding_window_pattern="LLLG",
        layer_types=["full_attention" if i % 4 == 3 else "sliding_attention" for i in range(64)]),
    "rednote-hilab/dots.llm1.base": _shape(
        "dots1", 62, 4096, 32, 32, 10944, 152064, head_dim=128, moe_intermediate_size=1408, n_routed_experts=128,
        n_shared_experts=2, num_experts_per_tok=6, first_k_dense_replace=1),
    "deepseek-ai/DeepSeek-V3.2": _shape(
        "deepseek_v32", 61, 7168, 128, 128, 18432, 129280, n_routed_experts=256, num_experts_per_tok=8,
        moe_intermediate_size=2048, first_k_dense_replace=3, **_V3, **_INDEXER,
        quantization_config={"quant_method": "fp8", "weight_block_size": [128, 128]}),
    "zai-org/GLM-5": _shape(
        "glm_moe_dsa", 78, 6144, 64, 64, 12288, 154880, n_routed_experts=256, num_experts_per_tok=8,
        moe_intermediate_size=2048, first_k_dense_replace=3, **_V3 | {
            "q_lora_rank": 2048, "qk_nope_head_dim": 192, "v_head_dim": 256}, **_INDEXER | {"index_n_heads": 32}),
    "moonshotai/Kimi-K2.5": {"model_type": "kimi_k25", "text_config": _shape(
        "kimi_k2", 61, 7168, 64, 64, 18432, 163840, n_routed_experts=384, num_experts_per_tok=8,
        moe_intermediate_size=2048, first_k_dense_replace=1, **_V3, quantization_config={
            "quant_method": "compressed-tensors", "ignore": [
                "lm_head", "re:.*self_attn.*", "re:.*shared_experts.*", r"re:.*mlp\.(gate|up|gate_up|down)_proj.*"],
            "config_groups": {"group_0": {"targets": ["Linear"], "weights": {
                "num_bits": 4, "type": "int", "strategy": "group", "group_size": 32, "symmetric": True}}}})},
    "MiniMaxAI/MiniMax-M2.5": _shape(
        "minimax_m2", 62, 3072, 48, 8, 1536, 200064, head_dim=128, num_local_experts=256, num_experts_per_tok=8,
        use_qk_norm=True, quantization_config={"quant_method": "fp8", "weight_block_size": [128, 128]}),
    "meta-llama/Llama-4-Scout-17B-16E-Instruct": {"model_type": "llama4", "text_config": _shape(
        "llama4_text", 48, 5120, 40, 8, 8192, 202048, head_dim=128, intermediate_size_mlp=16384, num_local_experts=16,
        num_experts_per_tok=1, interleave_moe_layer_step=1, attention_chunk_size=8192)},
    "nvidia/NVIDIA-Nemotron-3-Nano-30B-A3B-BF16": _shape(
        "nemotron_h", 52, 2688, 32, 2, 1856, 131072, head_dim=128, mamba_num_heads=64, mamba_head_dim=64, n_groups=8,
        ssm_state_size=128, conv_kernel=4, n_routed_experts=128, num_experts_per_tok=6, moe_intermediate_size=1856,
        moe_shared_expert_intermediate_size=3712,
        hybrid_override_pattern="MEMEM*EMEMEM*EMEMEM*EMEMEM*EMEMEM*EMEMEMEM*EMEMEMEME"),
    "openai/gpt-oss-120b": _shape(
        "gpt_oss", 36, 2880, 64, 8, 2880, 201088, head_dim=64, num_local_experts=128, num_experts_per_tok=4,
        sliding_window=128, quantization_config=_MXFP4),
    "openai/gpt-oss-20b": _shape(
        "gpt_oss", 24, 2880, 64, 8, 2880, 201088, head_dim=64, num_local_experts=32, num_experts_per_tok=4,
        sliding_window=128, quantization_config=_MXFP4),
    "TheBloke/Llama-2-7B-AWQ": _shape("llama", 32, 4096, 32, 32, 11008, 32000, quantization_config=_AWQ),
    "TheBloke/Llama-2-13B-AWQ": _shape("llama", 40, 5120, 40, 40, 13824, 32000, quantization_config=_AWQ),
    "TheBloke/Llama-2-70B-AWQ": _shape("llama", 80, 8192, 64, 8, 28672, 32000, quantization_config=_AWQ),
    "TheBloke/Mistral-7B-v0.1-AWQ": _shape("mistral", 32, 4096, 32, 8, 14336, 32000, quantization_config=_AWQ),
}
