"""The calls: which function, with which arguments, on which machine.

One function per part of the plan; `sections.py` names them in order. A machine is KVM's
default unless the function's name says otherwise: two vCPUs, the second powered off, PSCI
0.2 asked for, no filter, every firmware register at its reset value.
"""

from __future__ import annotations

from itertools import islice

from kvm_recorder import ids
from kvm_recorder.plan import (
    AFTER,
    BMAP,
    CORE,
    DENY,
    FORWARD,
    FW,
    HANDLE,
    MPIDR_EL1,
    POWER_OFF,
    PSCI_0_2,
    RECORDS,
    RUNNABLE,
    SCTLR_EL1,
    STOPPED,
    SUSPENDED,
    Plan,
    le64,
)

GARBAGE = (0xFFFF_FFFF_0000_0000, 0x0000_0001_0000_0000, 0x8000_0000_0000_0000)
IMMEDIATES = (1, 0xEA1, 0xFFFF)
PSCI_VERSIONS = (0x2, 0x1_0000, 0x1_0001, 0x1_0002, 0x1_0003)
EDGES = (0, 1, 2, 3, 4, 5, 0x7FFF_FFFF, 0x8000_0000, 0x8000_0001, 0xFFFF_FFFF, 1 << 32,
         (1 << 32) + 1, (1 << 32) | 0x8000_0000, 1 << 63, (1 << 64) - 1)
TRNG_BITS = (0, 1, 2, 7, 8, 31, 32, 33, 63, 64, 65, 95, 96, 97, 127, 128, 129, 191, 192, 193,
             256, 0x7FFF_FFFF, 0x8000_0000, 0xFFFF_FFFF, 1 << 32, (1 << 32) + 1,
             (1 << 32) + 192, (1 << 63) + 64, (1 << 64) - 1)
QUERIES = (ids.PSCI_FEATURES, ids.ARCH_FEATURES, ids.TRNG_FEATURES, ids.PV_TIME_FEATURES)
ENABLE_SYSTEM_SUSPEND = ("enable", "m", 216)  # KVM_CAP_ARM_SYSTEM_SUSPEND


def default_sweep(plan: Plan) -> None:
    plan.machine()
    plan.sweep(ids.all_ids())


def zero_arguments(plan: Plan) -> None:
    plan.machine()
    plan.sweep(ids.around(ids.KEY), 0, 0, 0)


def immediates(plan: Plan) -> None:
    plan.machine()
    for imm in IMMEDIATES:
        plan.sweep(ids.KEY, imm=imm)
        plan.sweep(ids.KEY[:6], conduits="v", imm=imm)


def upper_halves(plan: Plan) -> None:
    """Garbage above bit 31 of x0 must not matter; of arguments it sometimes does."""
    plan.machine()
    for garbage in GARBAGE:
        plan.sweep([fid | garbage for fid in ids.KEY])
        for query in QUERIES:
            plan.sweep([query], conduits="h")
            for fid in ids.KEY:
                plan.calls(query, fid | garbage)


def exception_levels(plan: Plan) -> None:
    """HVC, SMC and SVC at EL0 and EL1: what never reaches KVM is an exception in the guest."""
    plan.machine()
    for el in (0, 1):
        for conduit in "hsv":
            for fid in ids.KEY[:12]:
                for imm in (0, 1, 0xFFFF):
                    plan.calls(fid, conduit=conduit, el=el, imm=imm)


def random_ids(plan: Plan) -> None:
    plan.machine()
    words = iter(ids.random_words(20240501))
    for _ in range(2000):
        plan.calls(*islice(words, 4))
    for _ in range(1000):
        fid, *args = islice(words, 4)
        plan.calls(fid, *args, conduit="s")


def random_near(plan: Plan) -> None:
    """Random numbers, but owners and types that somebody answers."""
    plan.machine()
    words = iter(ids.random_words(7))
    bases = (0x8000_0000, 0x8400_0000, 0xC400_0000, 0x8500_0000, 0xC500_0000, 0x8600_0000)
    for index, word in enumerate(islice(words, 1500)):
        fid = bases[index % len(bases)] | word & (0x7F if word >> 40 & 1 else 0xFFFF)
        plan.calls(fid | (word >> 32 << 32), *islice(words, 3), conduit="hs"[word >> 63])


def feature_queries(plan: Plan) -> None:
    plan.machine()
    asked = list(dict.fromkeys([*ids.around(ids.KNOWN), *ids.reserved_bits()]))
    for query in QUERIES:
        for fid in asked:
            plan.calls(query, fid)
    for query in QUERIES:
        plan.sweep(ids.widths([query]), ids.PSCI_VERSION)


def trng_arguments(plan: Plan) -> None:
    plan.machine()
    for fid in (ids.TRNG_RND32, ids.TRNG_RND64):
        for bits in TRNG_BITS:
            plan.sweep([fid], bits)
    for fid in (ids.TRNG_RND32, ids.TRNG_RND64):
        for bits in range(200):
            plan.calls(fid, bits)


def psci_arguments(plan: Plan) -> None:
    plan.machine(ids=(0, 1, 0x10, 0x11))
    targets = (*EDGES, 0x100, 0x101, 0x102, 0x1_0000, 1 << 24, 0x8000_0100, 1 << 40,
               0x100 | 1 << 32, 0x8000_0000)
    for fid in ids.widths([ids.CPU_ON]):
        for target in targets:
            plan.sweep([fid], target, AFTER, 0x1234_5678_9ABC_DEF0)
            for vcpu in (1, 2, 3):
                plan.mp(vcpu, STOPPED)
    for fid in ids.widths([ids.AFFINITY_INFO]):
        for target in targets:
            for level in (0, 1, 2, 3, 4, 1 << 32, 1 << 63, (1 << 64) - 1):
                plan.calls(fid, target, level)
    for state in (RUNNABLE, SUSPENDED):
        plan.mp(2, state)
        for target in (0, 1, 0x10, 0x11, 0x12, 0x100):
            for level in range(4):
                plan.calls(ids.AFFINITY_INFO, target, level)
            plan.call(ids.CPU_ON, target, AFTER, 1)
            plan.mp(1, STOPPED)
            plan.mp(3, STOPPED)
    for fid in ids.widths([ids.CPU_SUSPEND]):
        for state in (0, 1, 0x1_0000, 0x100_0000, 0xFFFF_FFFF, 1 << 32):
            plan.sweep([fid], state, AFTER, 5)


def affinities(plan: Plan) -> None:
    """vCPU ids across the fields of MPIDR_EL1, and CPU_ON of each by what it reads there."""
    numbers = (0, 1, 0xF, 0x10, 0xFF, 0x100, 0x1FF)
    plan.machine(ids=numbers)
    for index in range(len(numbers)):
        plan.get(index, MPIDR_EL1)
    targets = [n & 0xF | (n >> 4 & 0xFF) << 8 | n >> 12 << 16 for n in numbers]
    for target in (*targets, *numbers):
        for level in range(5):
            plan.call(ids.AFFINITY_INFO, target, level)
    for target in (*targets, *(t | 1 << 31 for t in targets)):
        plan.call(ids.CPU_ON | ids.SMC64, target, AFTER, 1)


def reset_arguments(plan: Plan) -> None:
    """SYSTEM_OFF, RESET, RESET2, OFF2, SYSTEM_SUSPEND and its kin, with every edge."""
    plan.machine()
    plan.add(*ENABLE_SYSTEM_SUSPEND)
    fids = ids.widths([ids.SYSTEM_OFF, ids.SYSTEM_RESET, ids.SYSTEM_SUSPEND, ids.SYSTEM_RESET2,
                       ids.SYSTEM_OFF2])
    for fid in fids:
        for value in EDGES:
            plan.sweep([fid], value, 0)
        for cookie in (1, 1 << 32, (1 << 64) - 1):
            plan.sweep([fid], 0, cookie)
            plan.sweep([fid], 1, cookie)
    for fid in (ids.CPU_OFF, ids.SYSTEM_OFF, ids.SYSTEM_RESET):
        plan.mp(1, RUNNABLE)
        plan.call(fid, 0, 0, 0)
        plan.run(0)
        plan.call(ids.PSCI_VERSION)  # the vCPU is stopped: it does not run
        plan.mp(0, RUNNABLE)
        plan.call(ids.PSCI_VERSION)
        plan.mp(1, STOPPED)


def other_arguments(plan: Plan) -> None:
    """Every edge as the first argument of every key function."""
    plan.machine()
    for fid in ids.KEY:
        for value in EDGES:
            plan.calls(fid, value, value, value)
    for fid in ids.widths([ids.PTP, ids.KVM_FEATURES, ids.KVM_UID]):
        for value in EDGES:
            plan.sweep([fid], value)


def psci_versions(plan: Plan) -> None:
    fids = [*ids.widths([*ids.PSCI, ids.SMCCC_VERSION, ids.TRNG_VERSION]), *ids.PSCI_0_1]
    for version in (0x1, *PSCI_VERSIONS, 0x1_0004):
        plan.section(f"psci-versions {version:#x}")
        plan.machine(features=0 if version == 1 else PSCI_0_2)
        plan.set(0, FW, version)
        plan.get(0, FW)
        plan.sweep(fids)
        plan.sweep(fids, 0, 0, 0)
        plan.sweep([*ids.widths([ids.CPU_ON, ids.AFFINITY_INFO]), ids.PSCI_0_1[2]], 1, AFTER, 77)
        plan.sweep([*ids.widths([ids.CPU_ON, ids.AFFINITY_INFO]), ids.PSCI_0_1[2]], 0, AFTER, 77)
        for fid in fids:
            plan.calls(ids.PSCI_FEATURES, fid)


def bitmaps(plan: Plan) -> None:
    """Each bit of each firmware bitmap alone off, alone on, and the register at zero."""
    asked = [*ids.KEY, *ids.widths([*ids.TRNG, *ids.PV_TIME, ids.PTP, ids.KVM_UID])]
    for number, bits in ((0, 1), (1, 1), (2, 3), (3, 3)):
        for value in range(bits + 1):
            plan.section(f"bitmaps {number} = {value}")
            plan.machine()
            plan.set(0, BMAP | number, value)
            plan.get(0, *(BMAP | n for n in range(4)))
            plan.sweep(asked)
            plan.sweep(asked, 1, 0, 0, conduits="h")
            for query in QUERIES:
                for fid in asked:
                    plan.calls(query, fid)


def all_off(plan: Plan) -> None:
    plan.machine()
    for number in range(4):
        plan.set(0, BMAP | number, 0)
    plan.sweep(ids.around(ids.KEY))


def stolen_time(plan: Plan) -> None:
    """PV_TIME with and without a base; the record is zeroed by the call (abi/C §C3)."""
    plan.machine()
    for index in (0, 1):
        plan.attr(index, "set", 2, 0, le64(RECORDS + 64 * index))
    plan.add("write", RECORDS, *[0x5555_5555] * 32)
    plan.add("read", RECORDS, 64)
    for fid in (*ids.PV_TIME, *ids.widths(ids.PV_TIME), ids.PV_TIME_ST | 1 << 16):
        for arg in (*ids.PV_TIME, *(fid | 1 << 32 for fid in ids.PV_TIME), 0, 1):
            plan.sweep([fid], arg)
        plan.add("read", RECORDS, 128)
    plan.call(ids.CPU_ON, 1, AFTER, 0)
    plan.run(1)
    plan.prepare(1)
    plan.call(ids.PV_TIME_ST, vcpu=1)
    plan.call(ids.PV_TIME_FEATURES, ids.PV_TIME_ST, vcpu=1)
    plan.add("read", RECORDS, 128)
    plan.set(0, BMAP | 1, 0)
    plan.sweep(ids.KEY)


def stolen_time_of_one(plan: Plan) -> None:
    """The base is the vCPU's own: the other one has none."""
    plan.machine()
    plan.attr(1, "set", 2, 0, le64(RECORDS))
    plan.sweep(ids.PV_TIME, ids.PV_TIME_ST)
    plan.mp(1, RUNNABLE)
    plan.prepare(1)
    for fid in ids.PV_TIME:
        plan.call(fid, ids.PV_TIME_ST, vcpu=1)


def system_suspend(plan: Plan) -> None:
    fids = ids.widths([ids.SYSTEM_SUSPEND])
    for version in PSCI_VERSIONS:
        plan.section(f"system-suspend {version:#x}")
        plan.machine()
        plan.set(0, FW, version)
        plan.add(*ENABLE_SYSTEM_SUSPEND)
        for fid in fids:
            plan.sweep([fid], AFTER, 42)
            plan.calls(ids.PSCI_FEATURES, fid)
            plan.call(fid, AFTER, 42)
            plan.mp(0, SUSPENDED)
            plan.run(0, wait=True)
            plan.add("irq", 0, 1)
            plan.run(0, wait=True)
            plan.run(0, wait=True)
            plan.add("irq", 0, 0)
            plan.add("mpget", 0)
            plan.mp(0, RUNNABLE)
            plan.run(0)
    plan.sweep(ids.around(ids.KEY))


def cpu_on(plan: Plan) -> None:
    """Entry states, twice, off and on again, context ids, and the registers of the started vCPU."""
    context = 0x1122_3344_5566_7788
    for fid in ids.widths([ids.CPU_ON]):
        for entry in (AFTER, AFTER + 1, 0x2_0004, AFTER | 5 << 32):
            plan.section(f"cpu-on {fid:#x} entry {entry:#x}")
            plan.machine()
            plan.call(fid, 1, entry, context)
            plan.add("dump", 1)
            plan.call(fid, 1, entry, context)  # before it ran
            plan.run(1)
            plan.add("dump", 1)
            plan.call(fid, 1, entry, context)  # running
            plan.prepare(1)
            plan.call(ids.AFFINITY_INFO, 1, 0)
            plan.call(ids.CPU_OFF, vcpu=1)
            plan.call(ids.AFFINITY_INFO, 1, 0)
            plan.call(fid, 1, entry, context + 1)
            plan.run(1)
            plan.add("dump", 1)


def cpu_on_more(plan: Plan) -> None:
    plan.machine(ids=(0, 1, 2, 3))
    for target in (1, 2, 3, 2, 1):
        for conduit in "hs":
            plan.call(ids.CPU_ON | ids.SMC64, target, AFTER, target << 32 | 9, conduit=conduit)
    for target in (3, 1, 2):
        plan.run(target)
    plan.section("cpu-on big-endian caller")
    plan.machine()
    plan.set(0, SCTLR_EL1, 0x30D0_0800 | 1 << 25)
    plan.set(0, CORE | 2 * 28, 0)  # its memory has the bytes the other way round (run.c: saved_x)
    plan.call(ids.CPU_ON, 1, AFTER, 1)
    plan.run(1)
    plan.add("dump", 1)
    plan.section("cpu-on of the boot vCPU, from another")
    plan.machine()
    plan.mp(1, RUNNABLE)
    plan.prepare(1)
    plan.call(ids.CPU_OFF)
    plan.call(ids.CPU_ON | ids.SMC64, 0, AFTER, 5, vcpu=1)
    plan.call(ids.CPU_ON | ids.SMC64, 0, AFTER, 6, vcpu=1)
    plan.run(0)
    plan.section("cpu-on under PSCI 0.1")
    plan.machine(features=0)
    for target in (1, 1, 0, 9):
        plan.call(ids.PSCI_0_1[2], target, AFTER, 0xFFFF_FFFF_0000_0001)
    plan.run(1)
    plan.add("dump", 1)
    plan.prepare(1)
    plan.call(ids.PSCI_0_1[1], vcpu=1)
    plan.call(ids.PSCI_0_1[2], 1, AFTER, 3)
    plan.run(1)


def pending_power_on(plan: Plan) -> None:
    """CPU_ON of a vCPU whose registers the VMM then reads or writes before it runs."""
    plan.machine()
    plan.call(ids.CPU_ON, 1, AFTER, 0x77)
    plan.prepare(1)
    plan.call(ids.PSCI_VERSION, vcpu=1)
    plan.mp(1, STOPPED)
    plan.call(ids.CPU_ON, 1, AFTER, 0x78)
    plan.mp(1, STOPPED)
    plan.mp(1, RUNNABLE)
    plan.run(1)


def filter_actions(plan: Plan) -> None:
    """The whole key list under every action, over everything that may be filtered."""
    for name, action in (("handle", HANDLE), ("deny", DENY), ("forward", FORWARD)):
        plan.section(f"filter-actions {name}")
        plan.machine()
        plan.filter(0, 0x8000_0000, action)
        plan.filter(0x8001_0000, 0x3FFF_0000, action)
        plan.filter(0xC001_0000, 0x3FFF_0000, action)
        plan.sweep(ids.around(ids.KEY))
        plan.sweep([fid | ids.SVE_HINT for fid in ids.KEY])
        plan.sweep([fid | GARBAGE[0] for fid in ids.KEY], 1, 2, 3)
        for imm in IMMEDIATES:
            plan.sweep(ids.KEY, imm=imm)
        for fid in ids.KEY[:4]:
            for conduit in "hs":
                plan.calls(fid, conduit=conduit, el=0)
        for query in QUERIES:
            for fid in ids.KEY:
                plan.calls(query, fid)


def filter_one_by_one(plan: Plan) -> None:
    """A function of each kind denied or forwarded alone, its neighbours left."""
    plan.machine()
    for index, fid in enumerate(ids.KEY):
        plan.filter(fid, 1, (DENY, FORWARD, HANDLE)[index % 3])
    plan.sweep(ids.around(ids.KEY))


def filter_and_bitmaps(plan: Plan) -> None:
    """HANDLE is no way round a bitmap, and FORWARD asks none (abi/C §C1)."""
    for name, action in (("handle", HANDLE), ("deny", DENY), ("forward", FORWARD)):
        plan.section(f"filter-and-bitmaps {name}")
        plan.machine()
        for number in range(4):
            plan.set(0, BMAP | number, 0)
        for fid in (*ids.TRNG, *ids.PV_TIME, *ids.VENDOR):
            plan.filter(fid, 1, action)
        plan.sweep(ids.KEY)


def forwarded_replies(plan: Plan) -> None:
    """KVM_EXIT_HYPERCALL, the VMM's answer in x0-x3, and on."""
    plan.machine()
    plan.filter(0xC600_0000, 0x100, FORWARD)
    plan.filter(0x8400_0000, 0x20, FORWARD)
    for fid in (0xC600_0042, ids.PSCI_VERSION, ids.CPU_ON, ids.SYSTEM_OFF, 0xC600_00FF):
        for conduit in "hs":
            plan.mp(0, RUNNABLE)
            plan.call(fid, 1, AFTER, 3, conduit=conduit)
            for reg in range(4):
                plan.set(0, 0x6030_0000_0010_0000 | 2 * reg, 0x1000 + reg)
            plan.run(0)


def fresh_from_init(plan: Plan) -> None:
    """A vCPU straight after init, its features one by one, and what PSCI says."""
    for features in (0, PSCI_0_2):
        plan.section(f"fresh-from-init {features}")
        plan.new_vm()
        plan.add("vcpu", 0)
        plan.add("init", 0, 5, features)
        plan.add("dump", 0)
        plan.guest()
        plan.prepare(0)
        plan.sweep(ids.KEY)
        plan.add("init", 0, 5, features)
        plan.add("dump", 0)
        plan.add("init", 0, 5, features | POWER_OFF)
        plan.add("mpget", 0)
