"""Names for identifiers that no service answers."""

import pytest

from emu.world.catalogue import CATALOGUE, interface_of
from emu.world.services import service_class, service_names


def test_no_name_stands_in_two_places():
    declared = {
        fid for n in service_names() for f in service_class(n).functions() for fid in f.ids
    }
    assert not declared & set(CATALOGUE)


def test_every_row_is_a_32_bit_identifier_with_a_name_and_a_source():
    for fid, known in CATALOGUE.items():
        assert 0 <= fid < 1 << 32
        assert known.name.isidentifier()
        assert known.source


@pytest.mark.parametrize(
    ("fid", "name"),
    [
        (0x8400_0005, "MIGRATE"),  # abi/B §B1
        (0xC400_0011, "PSCI_STAT_COUNT"),
        (0x8400_000F, "PSCI_SET_SUSPEND_MODE"),
        (0xC400_0020, "SDEI_VERSION"),  # abi/E §E7
        (0xC400_0032, "SDEI_SHARED_RESET"),
        (0x8400_0063, "FFA_VERSION"),  # abi/E §E5
        (0xC400_008E, "FFA_MSG_SEND_DIRECT_RESP2"),
        (0xC400_0199, "RSI_HOST_CALL"),  # abi/E §E6
        (0x8500_FF01, "STANDARD_HYP_CALL_UID"),  # abi/A §A6
        (0x4600_0001, "HV_HYPERCALL"),  # abi/E §E3
        (0xC600_0040, "KVM_DISCOVER_IMPL_VER"),  # abi/C §C3
    ],
)
def test_names_of_the_specifications(fid, name):
    assert CATALOGUE[fid].name == name


@pytest.mark.parametrize(
    ("fid", "interface"),
    [
        (0x8400_0000, "PSCI"), (0xC400_001F, "PSCI"), (0xC400_0020, "SDEI"),
        (0x8400_0053, "TRNG"), (0x8400_0060, "FF-A"), (0xC400_0150, "RMI"),
        (0xC400_0190, "RSI"), (0x8400_0040, ""), (0x8000_0000, ""), (0x0400_0000, ""),
    ],
)  # fmt: skip
def test_the_sub_allocation_of_owner_4(fid, interface):
    assert interface_of(fid) == interface
