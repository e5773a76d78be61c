from __future__ import annotations

import re

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from hasten import schedules as s
from hasten.schedules.text import FACTORIES


@given(data=st.data())
def test_parse_undoes_format(any_schedule, data):
    schedule = data.draw(any_schedule)
    assert s.parse(s.format(schedule)) == schedule


@pytest.mark.parametrize(
    ("text", "schedule"),
    [
        ("warmup(cosine(), 8)", s.warmup(s.cosine(), 8)),
        ("wsd(decay=0.1, kind='linear')", s.wsd(0.1, kind="linear")),
        ("wsd(0.1)", s.wsd(0.1)),
        ("step((0.5,))", s.step((0.5,))),
        ("step((0.3, 0.6), gamma=0.5)", s.step((0.3, 0.6), gamma=0.5)),
        ("cyclic(8)", s.cyclic(8)),
        ("cyclic(8, warmup=0)", s.cyclic(8, warmup=0)),
        ("then(constant(), 50, floor(exponential(0.99), 0.1))",
         s.then(s.constant(), 50, s.floor(s.exponential(0.99), 0.1))),
        ("scale(one_cycle(), 1e-3)", s.scale(s.one_cycle(), 0.001)),
        (" cosine ", s.cosine()),
        ("warmup(cosine, 8)", s.warmup(s.cosine(), 8)),
        ("step([0.5])", s.step((0.5,))),
        ("exponential(None, floor=0.1)", s.exponential(floor=0.1)),
        ("rex()", s.rex()),
        ("rex(0.1, floor=0.2)", s.rex(0.1, floor=0.2)),
        ("warmup(inverse_sqrt(4000), 4000)", s.warmup(s.inverse_sqrt(4000), 4000)),
        ("power(5.8e8, warmup=2e7, decay=0.1)", s.power(5.8e8, warmup=2e7, decay=0.1)),
        ("infinite(40, warmup=10, anneal_at=100, anneal=20)", s.infinite(40, warmup=10, anneal_at=100, anneal=20)),
        ("rewarm(cosine, 1000, linear, 10)", s.rewarm(s.cosine(), 1000, s.linear(), 10)),
        ("over(warmup(cosine, 30), '10min')", s.over(s.warmup(s.cosine(), 30), "10min")),
        ("over(cosine, 600)", s.over(s.cosine(), 600.0)),
    ],
)  # fmt: skip
def test_texts_people_write(text, schedule):
    assert s.parse(text) == schedule


@pytest.mark.parametrize(
    ("schedule", "text"),
    [
        (s.cosine(), "cosine()"),
        (s.wsd(0.2, kind="1-sqrt"), "wsd()"),
        (s.warmup(s.linear(end=0.1), 8.0, kind="sqrt"), "warmup(linear(end=0.1), 8, kind='sqrt')"),
        (s.cyclic(8), "cyclic(8, warmup=8)"),
        (s.step((0.5,)), "step(milestones=(0.5,))"),
        (s.then(s.constant(), 2.5, s.polynomial()), "then(constant(), 2.5, polynomial())"),
        (s.rex(), "rex()"),
        (s.power(5.8e8, warmup=20_000_000), "power(5.8e8, warmup=2e7)"),
        (s.power(1_234_567), "power(1234567)"),
        (s.inverse_sqrt(100_000), "inverse_sqrt(100000)"),
        (s.infinite(40), "infinite(40)"),
        (s.rewarm(s.cosine(), 8, s.rex(), 2), "rewarm(cosine(), 8, rex(), 2)"),
        (s.over(s.cosine(), "10min"), "over(cosine(), '10min')"),
    ],
)
def test_the_text_is_short(schedule, text):
    assert s.format(schedule) == text


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("cosin()", "schedule: expected the name of a schedule, got 'cosin'. Did you mean cosine"),
        ("warmup(cosin(), 8)", "Did you mean cosine"),
        ("wsd(decy=0.2)", "wsd: expected an argument it has, got 'decy'. Did you mean decay?"),
        ("wsd(kind='1-sqr')", "Did you mean 1-sqrt?"),
        ("warmup(cosine())", "warmup: expected arguments warmup(schedule, steps, kind, start), got missing"),
        ("cosine(0.1, 0.2)", "cosine: expected arguments cosine(floor), got too many positional arguments"),
        ("cosine(0.1, floor=0.2)", "got multiple values for argument 'floor'"),
        ("wsd(decay=0.1, decay=0.2)", "expected every argument written out, once"),
        ("wsd(**{})", "expected every argument written out, once"),
        ("wsd(*(1,))", "nothing is evaluated"),
        ("over(cosine, '10')", "over: expected a length such as '90s', '10min' or '2h', got '10'"),
        ("infinite()", "infinite: expected arguments infinite(cooldown, warmup, constant, anneal_at, anneal, minimum)"),
        (
            "cosine(floor=1/2)",
            "names of schedules, numbers, strings and tuples, got '1 / 2'. Write values out: nothing is evaluated.",
        ),
        ("__import__('os')", "got '__import__'"),
        ("cosine.__class__()", "nothing is evaluated"),
        ("cosine()(1)", "nothing is evaluated"),
        ("[cosine() for _ in (1,)]", "nothing is evaluated"),
        ("cosine(--0.1)", "nothing is evaluated"),
        ("cosine(-0.1)", "cosine: expected floor in [0, 1], got -0.1"),
        ("cosine(True)", "a finite number for floor"),
        ("warmup(cosine(), 1" + 400 * "0" + ")", "schedule: expected numbers up to 1e+300"),
        ("warmup(cosine(), -1e999)", "numbers up to 1e+300"),
        ("0.5", "got '0.5'. Write the name of a schedule."),
        ("", "It does not parse"),
        ("cosine(", "It does not parse: '(' was never closed."),
        ("cosine(); cosine()", "It does not parse"),
        ("cos\0ine()", "It does not parse"),
        (200 * "scale(", "at most 1000 characters, got 1200"),
        (900 * "(", "It does not parse"),
    ],
)
def test_anything_else_is_refused_with_the_way_out(text, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        s.parse(text)


@pytest.mark.parametrize("text", ["warmup(0.5, 8)", "warmup('cosine', 8)", "step(0.5)", "scale(None, 1)"])
def test_wrong_types_are_refused(text):
    with pytest.raises(TypeError, match="expected"):
        s.parse(text)


@given(text=st.text(max_size=40) | st.text(alphabet="cosinewarmupd().,0123456789='-*[]{}: ", max_size=40))
@example("cosine(floor=cosine())")
@example("warmup(step, step)")
@example("step(())")
@example("step((None,))")
@example("1if 2else 3")
@example("'\\d'")
@example("wsd(kind=(1,))")
def test_no_text_does_anything_but_parse_or_refuse(text):
    try:
        outcome = s.parse(text)
    except (ValueError, TypeError) as error:
        outcome = error
    assert isinstance(outcome, s.BaseSchedule) or ": expected " in str(outcome)


def test_deep_nesting_is_only_long():
    text = 90 * "scale(" + "cosine()" + 90 * ", 1)"
    schedule = s.parse(text)
    assert s.format(schedule) == text
    assert schedule.body == schedule
    assert schedule(5, 10) == 0.5


def test_only_text_is_parsed_and_only_schedules_of_the_room_are_written():
    with pytest.raises(TypeError, match="schedule: expected text such as"):
        s.parse(s.cosine())
    with pytest.raises(TypeError, match="format: expected a schedule of hasten"):
        s.format("cosine()")

    class Mine(s.BaseSchedule):
        name = "mine"

        def values(self, t, T):
            return t

    with pytest.raises(TypeError, match="format: expected a schedule of hasten"):
        s.format(s.warmup(Mine(), 3))


def test_every_factory_is_known_and_exported():
    assert all(getattr(s, name) is factory for name, factory in FACTORIES.items())
    texts = [f"{name}({_NEED.get(name, '')})" for name in FACTORIES]
    public = {getattr(s, name) for name in s.__all__} - {s.BaseSchedule}
    classes = {value for value in public if isinstance(value, type) and issubclass(value, s.BaseSchedule)}
    assert {type(s.parse(text)) for text in texts} == classes


_NEED = {
    "cyclic": "8", "warmup": "cosine, 8", "then": "cosine, 8, linear", "scale": "cosine, 0.5", "floor": "wsd, 0.1",
    "inverse_sqrt": "8", "power": "8", "infinite": "8", "rewarm": "cosine, 8, linear, 2", "over": "cosine, '10min'",
}  # fmt: skip
