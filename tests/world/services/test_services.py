"""The register of services."""

from __future__ import annotations

from pathlib import Path

import pytest

from emu.base.abi import is_abi
from emu.base.errors import ProfileError
from emu.world import services
from emu.world.abis.xen import Xen
from emu.world.profile import load_profile, profile_names
from emu.world.service import Service
from emu.world.services import service_class, service_names
from kit import VENDOR_UID


def test_every_file_is_a_service_and_every_service_a_file():
    folder = Path(services.__file__).parent
    assert {p.stem for p in folder.glob("*.py")} - {"__init__"} == set(service_names())


@pytest.mark.parametrize("name", service_names())
def test_service(name):
    cls = service_class(name)
    assert issubclass(cls, Service)
    assert cls.name == name
    assert cls.source
    unknown = cls.abi.unknown.signed if is_abi(cls.abi) else -1
    assert cls.codes[unknown] == ("ENOSYS" if cls.abi is Xen else "NOT_SUPPORTED")
    for function in cls.functions():
        assert function.doc, function.name
        assert len(set(function.ids)) == len(function.ids)
        assert all(0 <= fid <= 0xFFFF_FFFF for fid in function.ids) or is_abi(cls.abi)


def test_no_identifier_is_declared_twice():
    ids = [
        (fid, function.since)
        for name in service_names()
        for function in service_class(name).functions()
        for fid in function.ids
        if fid != VENDOR_UID
    ]
    assert len(ids) == len(set(ids))


def test_vendors_share_no_profile():
    """Owner 6 is whose UID it is (DEN0028): each vendor declares the question, one answers."""
    vendors = {
        name for name in service_names()
        for function in service_class(name).functions() if VENDOR_UID in function.ids
    }
    assert vendors == {"kvm_vendor", "xen"}
    for name in profile_names():
        assert len(vendors & load_profile(name).services.keys()) <= 1


def test_unknown_service():
    with pytest.raises(ProfileError, match=r"unknown service hyperv \(there is arch, asyncpf"):
        service_class("hyperv")
