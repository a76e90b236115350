"""Decision rules, one per file: what each does when the server is free. `RULES` is where a new one is entered."""

from verification.rules import greedy, look_ahead, nested, paced, sarathi, vllm_v0, vllm_v1, wait
from verification.rules.memory_constrained import a_min, clearing, mc_benchmark, mcsf, protected, sorted_f
from verification.rules.rule import Rule

RULES: tuple[Rule, ...] = (wait.RULE, paced.RULE, look_ahead.RULE, nested.RULE, vllm_v1.RULE, greedy.RULE, vllm_v0.RULE,
                           sarathi.RULE, mcsf.RULE, mc_benchmark.RULE, protected.RULE, clearing.RULE, a_min.RULE,
                           sorted_f.RULE)


def rule_of(policy: object) -> Rule | None:
    """The rule that runs a policy, or a design of one; None where there is none."""
    return next((rule for rule in RULES if isinstance(policy, rule.policy)), None)


def rule_named(name: str) -> Rule:
    """The rule whose policies go by a name; raises KeyError where there is none."""
    return {rule.name: rule for rule in RULES}[name]
