"""Values as people write them: read, written back, and refused."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic_core import PydanticCustomError

from gateway.config.values import (
    expand,
    read_duration,
    read_percentage,
    read_percentile,
    read_size,
    show_duration,
    show_percentage,
    show_size,
)


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("300ms", 0.3), ("2s", 2.0), ("1.5s", 1.5), ("5m", 300.0), ("1h", 3600.0), ("7d", 604800.0), ("0s", 0.0), ("0ms", 0.0)],
)
def test_durations_are_seconds(text: str, seconds: float) -> None:
    """A duration is read exactly, as the nearest float to its decimal value."""
    assert read_duration(text) == seconds


@pytest.mark.parametrize("text", ["", "2", "s", "2 s", "-2s", "2S", "1m30s", "2sec", "٢s", "1e3s", "9" * 13 + "s", "inf", ["2s"], {}, None])
def test_what_is_not_a_duration_is_refused(text: object) -> None:
    """A number without a unit is ambiguous, and no text may become infinity."""
    with pytest.raises(PydanticCustomError, match="must be a duration with its unit"):
        read_duration(text)


@given(st.integers(0, 10**7), st.sampled_from(["ms", "s", "m", "h", "d"]))
def test_a_duration_written_back_reads_the_same(count: int, unit: str) -> None:
    """read(show(read(text))) == read(text)."""
    seconds = read_duration(f"{count}{unit}")
    assert isinstance(seconds, float)
    assert read_duration(show_duration(seconds)) == seconds


@given(st.decimals(0, 10**6, places=6))
def test_any_decimal_number_of_seconds_survives_writing(amount: object) -> None:
    """Fractions down to a microsecond are written without an exponent and without loss."""
    seconds = float(str(amount))
    assert read_duration(show_duration(seconds)) == seconds


@pytest.mark.parametrize(
    ("text", "count"),
    [
        ("20MiB", 20 * 2**20),
        ("64KiB", 65536),
        ("1GB", 10**9),
        ("1GiB", 2**30),
        ("512B", 512),
        ("1.5KiB", 1536),
        ("2kb", 2000),
        ("3mb", 3 * 10**6),
    ],
)
def test_sizes_are_bytes(text: str, count: int) -> None:
    """KiB counts in 1024, KB in 1000, in any case."""
    assert read_size(text) == count


@pytest.mark.parametrize("text", ["", "20", "20M", "MiB", "-1B", "1 MiB", "1TiB", "9" * 13 + "B", []])
def test_what_is_not_a_size_is_refused(text: object) -> None:
    """A bare number is no size."""
    with pytest.raises(PydanticCustomError, match="must be a size with its unit"):
        read_size(text)


@given(st.integers(0, 10**12 - 1))
def test_a_size_written_back_reads_the_same(count: int) -> None:
    """read(show(n)) == n."""
    assert read_size(show_size(count)) == count


@pytest.mark.parametrize(("text", "ratio"), [("0%", 0.0), ("5%", 0.05), ("99.9%", 0.999), ("100%", 1.0), ("0.5%", 0.005)])
def test_percentages_are_ratios(text: str, ratio: float) -> None:
    """A percentage is read exactly."""
    assert read_percentage(text) == ratio


@given(st.decimals(0, 100, places=6))
def test_a_percentage_written_back_reads_the_same(percent: object) -> None:
    """read(show(read(text))) == read(text)."""
    ratio = read_percentage(f"{percent:f}%")
    assert isinstance(ratio, float)
    assert read_percentage(show_percentage(ratio)) == ratio


@pytest.mark.parametrize(
    ("text", "why"), [("101%", "between"), ("5", "must be a percentage"), ("-1%", "must be a"), ("%", "must be a"), ([], "must")]
)
def test_what_is_not_a_percentage_is_refused(text: object, why: str) -> None:
    """Only 0% to 100%, and only with its sign."""
    with pytest.raises(PydanticCustomError, match=why):
        read_percentage(text)


def test_percentiles_are_ratios() -> None:
    """p95 is 0.95; p0 and p100 are no percentiles one could wait for."""
    assert [read_percentile(text) for text in ("p50", "p95", "p99.9")] == [0.5, 0.95, 0.999]
    for text in ("95", "p0", "p100", "P95", "p", "95%", {}):
        with pytest.raises(PydanticCustomError, match="must be a percentile"):
            read_percentile(text)


ENVIRON = {"A": "one", "EMPTY": "", "ODD": "${A} $$ \\1"}


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("plain $5 {x}", "plain $5 {x}"),
        ("${A}", "one"),
        ("<${A}${A}>", "<oneone>"),
        ("${NO:-two}", "two"),
        ("${NO:-}", ""),
        ("${EMPTY}", ""),
        ("${EMPTY:-two}", "two"),
        ("${A:-two}", "one"),
        ("${NO:-http://h:1/:-x}", "http://h:1/:-x"),
        ("$${A}", "${A}"),
        ("${ODD}", "${A} $$ \\1"),
    ],
)
def test_variables_are_filled_in(text: str, expected: str) -> None:
    """As in a shell; what a variable holds is never expanded again."""
    assert expand(text, ENVIRON) == expected


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("${NO}", "environment variable NO is not set; set it, or give a default: ${NO:-...}"),
        ("${A", "'${' is not closed by '}'; write '$${' for the characters themselves"),
        ("${}", "'${...}' must hold the name of an environment variable, with ':-default' after it if wanted"),
        ("${1A}", "'${...}' must hold the name of an environment variable, with ':-default' after it if wanted"),
        ("${A-b}", "'${...}' must hold the name of an environment variable, with ':-default' after it if wanted"),
    ],
)
def test_a_wrong_variable_says_how_to_write_it(text: str, message: str) -> None:
    """An unset variable without a default is an error that names it."""
    with pytest.raises(ValueError) as caught:
        expand(text, ENVIRON)
    assert str(caught.value) == message


@given(st.text(max_size=40), st.dictionaries(st.sampled_from(["A", "B"]), st.text(max_size=5)))
def test_expansion_always_ends_in_a_text_or_a_value_error(text: str, environ: dict[str, str]) -> None:
    """No text in a file can break the reader."""
    try:
        assert isinstance(expand(text, environ), str)
    except ValueError:
        assert "${" in text
