"""Names as the source has them, from names as linkers have them."""

from __future__ import annotations

import pytest

from clew.code.demangle import demangle, without_parameters

NAMES = {
    b"qemuProcessStart": "qemuProcessStart",
    b"poll.constprop.0": "poll",
    b"work.part.0.isra.0": "work",
    b"file.name": "file.name",
    b"_ZN2ns1K6methodEi": "ns::K::method",
    b"_ZNK2ns1K6methodERKSt6vectorIiSaIiEE": "ns::K::method",
    b"_ZN2ns1K4tmplIlEET_S2_": "ns::K::tmpl<long>",
    b"_ZN2ns1KclEi": "ns::K::operator()",
    b"_ZN2ns1KC2Ev": "ns::K::K",
    b"_ZN2ns1KD0Ev": "ns::K::~K",
    b"_ZN2ns1KlsEi": "ns::K::operator<<",
    b"_ZN2ns1KltIiEEbT_": "ns::K::operator< <int>",
    b"_ZN2ns1KcvbEv": "ns::K::operator bool",
    b"_Znwm": "operator new",
    b"_ZdaPv": "operator delete[]",
    b"_ZN2ns12_GLOBAL__N_14anonEi": "ns::(anonymous namespace)::anon",
    b"_ZN2ns12_GLOBAL__N_14anonEi.cold": "ns::(anonymous namespace)::anon",
    b"_ZZ4mainENKUliE_clEi": "main::{lambda(int)#1}::operator()",
    b"_ZN1AaSERKS_": "A::operator=",
    b"_Z1fPFviE": "f",
    b"_Z1gIiEPFvT_Ev": "g<int>",
    b"_ZTv0_n24_N1B1fEv": "B::f",
    b"_ZN3std2io5stdio6_print17h3a5d1c2b4e6f7089E": "std::io::stdio::_print",
    b"_ZN4core3ptr13drop_in_place17h0123456789abcdefE": "core::ptr::drop_in_place",
    b"_ZN63_$LT$r..inner..Reader$LT$i32$GT$$u20$as$u20$r..inner..Waits$GT$9wait_here17h613ecfc7451b45b0E": (
        "<r::inner::Reader<i32> as r::inner::Waits>::wait_here"
    ),
    b"_ZN1r5inner15Reader$LT$T$GT$4take17hee2114db9323b408E": "r::inner::Reader<T>::take",
    b"_RNvCs6GmmlP4bgsG_1r5block": "r::block",
    b"_RNvNtCsgEmfK2I1SDS_4core9panicking19assert_failed_inner": "core::panicking::assert_failed_inner",
    b"_RNvXs_NtCs6GmmlP4bgsG_1r5innerINtB4_6ReaderlENtB4_5Waits9wait_here": (
        "<r::inner::Reader<i32> as r::inner::Waits>::wait_here"
    ),
    b"_RINvMNtCs6GmmlP4bgsG_1r5innerINtB3_6ReaderlE4takeNCNvXs_B3_Br_NtB3_5Waits9wait_here0EB5_": (
        "<r::inner::Reader<i32>>::take"
    ),
    b"_RNCNvNtCsjrHSEGnQ3l9_3std9panicking12default_hook0B5_": "std::panicking::default_hook::{closure#0}",
    b"_RNvMC1aTRShAlj3_DNtB2_1TEL_E1f": "<(&[u8], [i32; 3], dyn a::T)>::f",
    b"_RNvMC1aFUKCPoEu1f": '<unsafe extern "C" fn(*const u128)>::f',
    b"_RNvC1au8gdel_5qa": "a::gödel",
}


@pytest.mark.parametrize("symbol", NAMES, ids=lambda symbol: symbol.decode()[:40])
def test_source_names(symbol: bytes) -> None:
    assert demangle(symbol) == NAMES[symbol]


@pytest.mark.parametrize(
    "symbol", [b"_R", b"_RNv", b"_RB_", b"_RNvC1a9f", b"_RNvMSSSSSSSC1a1f", b"_Rx", b"_R1"]
)
def test_what_is_no_rust_name_stays(symbol: bytes) -> None:
    assert demangle(symbol) == symbol.decode()


def test_a_rust_name_that_doubles_at_each_step_stays_as_it_is() -> None:
    doubling = (
        "_RNvMC1aT" + "".join(f"TB{back}_B{back}_E" for back in "789abcdefghijklmnopqrstuvwxyz" * 9) + "E1f"
    )
    assert demangle(doubling.encode()) == doubling


@pytest.mark.parametrize("symbol", [b"_Z", b"_ZN", b"_ZNSt", b"_Z" + b"9" * 40, b"_ZZZZ", b"_Z1fIXspE"])
def test_what_is_no_mangled_name_stays(symbol: bytes) -> None:
    assert demangle(symbol) == symbol.decode()


def test_a_name_that_doubles_at_each_step_stays_as_it_is() -> None:
    doubling = b"_Z1fSt4pairIiiE"
    for step in range(60):
        last = (
            b"S_"
            if step == 0
            else b"S%s_" % b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ"[step % 36 : step % 36 + 1]
        )
        doubling += b"St4pairI" + last + last + b"E"
    assert demangle(doubling) == doubling.decode()


def test_deep_nesting_stays_as_it_is() -> None:
    deep = b"_Z1f" + b"P" * 100_000 + b"i"
    assert demangle(deep) == deep.decode()


def test_bytes_that_are_no_text_are_escaped() -> None:
    assert demangle(b"f\xffoo") == "f\\xffoo"
    assert demangle(b"_Z1f\xff") == "_Z1f\\xff"


@pytest.mark.parametrize(
    ("full", "name"),
    [
        ("f(int)", "f"),
        ("f(int) [clone .cold]", "f"),
        ("A::f() const &", "A::f"),
        ("A::f(int) &&", "A::f"),
        ("(anonymous namespace)::f()", "(anonymous namespace)::f"),
        ("", ""),
        (")", ")"),
        ("(", "("),
    ],
)
def test_parameters_are_left_out(full: str, name: str) -> None:
    assert without_parameters(full) == name
