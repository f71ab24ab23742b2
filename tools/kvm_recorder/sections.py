"""The parts of the plan, in the order of the recording."""

from __future__ import annotations

from collections.abc import Callable

from kvm_recorder import calls, interface
from kvm_recorder.plan import Plan

SECTIONS: tuple[Callable[[Plan], None], ...] = (
    interface.capabilities,
    interface.enabling,
    interface.creation,
    interface.init_targets,
    interface.init_features,
    interface.init_after_run,
    interface.register_list,
    interface.firmware_sizes,
    interface.firmware_values,
    interface.firmware_after_run,
    interface.core_registers,
    interface.system_registers,
    interface.filter_checks,
    interface.filter_overlaps,
    interface.filter_nothing_at_zero,
    interface.filter_after_run,
    interface.mp_states,
    interface.stolen_time_attribute,
    calls.fresh_from_init,
    calls.default_sweep,
    calls.zero_arguments,
    calls.immediates,
    calls.upper_halves,
    calls.exception_levels,
    calls.random_ids,
    calls.random_near,
    calls.feature_queries,
    calls.trng_arguments,
    calls.psci_arguments,
    calls.affinities,
    calls.reset_arguments,
    calls.other_arguments,
    calls.psci_versions,
    calls.bitmaps,
    calls.all_off,
    calls.stolen_time,
    calls.stolen_time_of_one,
    calls.system_suspend,
    calls.cpu_on,
    calls.cpu_on_more,
    calls.pending_power_on,
    calls.filter_actions,
    calls.filter_one_by_one,
    calls.filter_and_bitmaps,
    calls.forwarded_replies,
)


def whole_plan() -> Plan:
    """Everything."""
    plan = Plan()
    for section in SECTIONS:
        plan.section(section.__name__.replace("_", "-"))
        section(plan)
    return plan
