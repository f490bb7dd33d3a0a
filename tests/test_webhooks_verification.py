"""What is accepted as a genuine delivery, and that everything else is one error."""

import base64
import copy
import pickle
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from pathlib import Path
from traceback import walk_tb

import pytest
import standardwebhooks
from hypothesis import given
from hypothesis import strategies as st
from multidict import CIMultiDict

from codat_commerce_async.errors import CodatError, WebhookVerificationError
from codat_commerce_async.webhooks import WebhookVerifier
from tests.support.cases import all_cases
from tests.support.deliveries import NOW, OTHER_SECRET, SECRET, Delivery, sign

IDS = st.text(st.characters(min_codepoint=0x21, max_codepoint=0x7E), min_size=1, max_size=256)
BODIES = st.text().map(lambda text: text.encode(errors="ignore"))
HEADER_NAMES = ["webhook-id", "webhook-timestamp", "webhook-signature"]


def verifier(*secrets: str, now: float = NOW, tolerance: float = 300.0) -> WebhookVerifier:
    return WebhookVerifier(*(secrets or (SECRET,)), tolerance=tolerance, wall_clock=lambda: now)


def assert_refused(headers: Mapping[str, str], body: bytes, by: WebhookVerifier | None = None) -> None:
    with pytest.raises(WebhookVerificationError) as caught:
        (by or verifier()).verify(headers, body)
    assert caught.value.__context__ is None
    assert SECRET.removeprefix("whsec_") not in str(caught.value)


def test_the_example_of_the_specification_is_accepted() -> None:
    headers = {
        "webhook-id": "msg_p5jXN8AQM9LWM0D4loKWxJek",
        "webhook-timestamp": "1614265330",
        "webhook-signature": "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=",
    }
    specified = verifier("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw", now=1614265330)
    assert specified.verify(headers, b'{"test": 2432232314}') == "msg_p5jXN8AQM9LWM0D4loKWxJek"


@given(IDS, BODIES, st.integers(NOW - 300, NOW + 300))
def test_every_signature_by_the_specification_is_accepted(webhook_id: str, body: bytes, sent_at: int) -> None:
    delivery = Delivery(body, webhook_id, str(sent_at))
    assert verifier().verify(delivery.headers, body) == webhook_id


@pytest.mark.parametrize("spell", [str.upper, str.title, str.lower])
def test_header_names_are_taken_in_any_case(spell: type[str]) -> None:
    delivery = Delivery()
    headers = {spell(name): value for name, value in delivery.headers.items()}
    assert verifier().verify(headers, delivery.body) == delivery.webhook_id
    assert verifier().verify(CIMultiDict(headers), delivery.body) == delivery.webhook_id


@all_cases(
    ("signed_with", "known"),
    [
        ((SECRET, OTHER_SECRET), (SECRET,)),
        ((OTHER_SECRET, SECRET), (SECRET,)),
        ((SECRET,), (SECRET, OTHER_SECRET)),
        ((SECRET,), (OTHER_SECRET, SECRET)),
    ],
)
def test_one_good_signature_is_enough_while_a_secret_rotates(
    signed_with: tuple[str, ...], known: tuple[str, ...]
) -> None:
    delivery = Delivery(secrets=signed_with)
    assert verifier(*known).verify(delivery.headers, delivery.body) == delivery.webhook_id


def test_signatures_of_other_kinds_are_passed_over() -> None:
    delivery = Delivery()
    delivery.signature = f"v1a,AAAA nonsense , v2,{delivery.signature[3:]} {delivery.signature}"
    assert verifier().verify(delivery.headers, delivery.body) == delivery.webhook_id


def test_a_signature_of_another_version_is_refused() -> None:
    delivery = Delivery()
    delivery.signature = delivery.signature.replace("v1,", "v2,")
    assert_refused(delivery.headers, delivery.body)


def test_an_unknown_secret_is_refused() -> None:
    delivery = Delivery(secrets=(OTHER_SECRET,))
    assert_refused(delivery.headers, delivery.body)


@all_cases("seconds", [-301, 301, -86_400, 10**9])
def test_an_old_or_future_timestamp_is_refused(seconds: int) -> None:
    delivery = Delivery(timestamp=str(NOW + seconds))
    assert_refused(delivery.headers, delivery.body)


def test_a_recorded_delivery_is_refused_once_it_is_old() -> None:
    delivery = Delivery()
    assert verifier(now=NOW + 299).verify(delivery.headers, delivery.body) == delivery.webhook_id
    assert_refused(delivery.headers, delivery.body, verifier(now=NOW + 301))


@all_cases(
    ("tolerance", "error"),
    [(True, TypeError), ("300", TypeError), (10**400, ValueError), (float("nan"), ValueError), (-1, ValueError)],
)
def test_a_tolerance_that_cannot_work_is_refused_by_name(tolerance: float, error: type[Exception]) -> None:
    with pytest.raises(error, match=r"^tolerance must be "):
        verifier(tolerance=tolerance)


def test_the_tolerance_can_be_set() -> None:
    delivery = Delivery()
    assert verifier(now=NOW + 9, tolerance=10).verify(delivery.headers, delivery.body)
    assert_refused(delivery.headers, delivery.body, verifier(now=NOW + 11, tolerance=10))


def test_a_wall_clock_that_is_no_number_lets_nothing_pass() -> None:
    delivery = Delivery()
    assert_refused(delivery.headers, delivery.body, verifier(now=float("nan")))


@given(st.data(), BODIES.filter(bool), st.integers(0, 7))
def test_one_bit_changed_in_the_body_is_refused(data: st.DataObject, body: bytes, bit: int) -> None:
    delivery = Delivery(body)
    changed = bytearray(body)
    changed[data.draw(st.integers(0, len(body) - 1))] ^= 1 << bit
    assert_refused(delivery.headers, bytes(changed))


@given(st.data(), st.sampled_from(HEADER_NAMES), st.integers(0, 7))
def test_one_bit_changed_in_a_header_is_refused(data: st.DataObject, name: str, bit: int) -> None:
    delivery = Delivery()
    value = delivery.headers[name]
    at = data.draw(st.integers(0, len(value) - 1))
    changed = value[:at] + chr(ord(value[at]) ^ 1 << bit) + value[at + 1 :]
    assert_refused({**delivery.headers, name: changed}, delivery.body)


def test_no_bit_of_a_signature_is_without_meaning() -> None:
    delivery = Delivery()
    for at, character in enumerate(delivery.signature):
        for bit in range(8):
            changed = delivery.signature[:at] + chr(ord(character) ^ 1 << bit) + delivery.signature[at + 1 :]
            assert_refused({**delivery.headers, "webhook-signature": changed}, delivery.body)


@all_cases("spelling", ["0{}", "+{}", " {}", "{} ", "{}.0", "{}.9", "{}e0", "1_{}", "-{}", "٣{}", "nan"])
def test_other_spellings_of_the_same_moment_are_refused(spelling: str) -> None:
    delivery = Delivery()
    headers = {**delivery.headers, "webhook-timestamp": spelling.format(NOW)}
    assert_refused(headers, delivery.body)


@all_cases("webhook_id", ["a b", "msg-é", "msg\x00", "m" * 257])
def test_an_id_that_is_none_is_refused_even_if_it_is_signed(webhook_id: str) -> None:
    delivery = Delivery(webhook_id=webhook_id)
    assert_refused(delivery.headers, delivery.body)


@pytest.mark.parametrize("missing", HEADER_NAMES)
def test_a_missing_or_empty_header_is_refused(missing: str) -> None:
    delivery = Delivery()
    assert_refused({name: value for name, value in delivery.headers.items() if name != missing}, delivery.body)
    assert_refused({**delivery.headers, missing: ""}, delivery.body)


@pytest.mark.parametrize("twice", HEADER_NAMES)
def test_a_header_that_comes_twice_is_refused(twice: str) -> None:
    delivery = Delivery()
    headers = CIMultiDict(delivery.headers)
    headers.add(twice, headers[twice])
    assert_refused(headers, delivery.body)


@all_cases("body", [b'{"a": "\xff"}', b"", b"\x00\xfe", b"\xef\xbb\xbf{}"])
def test_a_body_of_any_bytes_is_accepted_if_it_is_signed(body: bytes) -> None:
    delivery = Delivery(body)
    assert verifier().verify(delivery.headers, body) == delivery.webhook_id
    assert_refused(delivery.headers, body + b"\x00")


HOSTILE_TEXT = st.one_of(
    st.text(),
    st.text(st.characters(min_codepoint=0xDC80, max_codepoint=0xDCFF)),
    st.sampled_from(["v1", "v1,", ",", "v1,=", "v1,a", "v1,\x00", "v1,é", " ", "v1,AAAA,BBBB", "9" * 400, "1e999"]),
    st.binary().map(lambda raw: "v1," + base64.b64encode(raw).decode()),
)


@given(st.dictionaries(st.one_of(st.sampled_from([*HEADER_NAMES, "Webhook-Id"]), st.text()), HOSTILE_TEXT), st.binary())
def test_hostile_headers_and_bodies_are_one_error(headers: dict[str, str], body: bytes) -> None:
    assert_refused(headers, body)


@given(HOSTILE_TEXT, st.sampled_from(HEADER_NAMES), st.binary())
def test_one_hostile_header_among_good_ones_is_one_error(text: str, name: str, body: bytes) -> None:
    assert_refused({**Delivery().headers, name: text}, body)


def test_huge_headers_and_bodies_are_one_error() -> None:
    delivery = Delivery()
    assert_refused({**delivery.headers, "webhook-signature": "v1,AAAA " * 100_000}, delivery.body)
    assert_refused({**delivery.headers, "webhook-id": "x" * 1_000_000}, delivery.body)
    assert_refused({**delivery.headers, "webhook-timestamp": "1" * 1_000_000}, delivery.body)
    assert_refused(delivery.headers, b"x" * 4_000_000)


@all_cases("secret", ["", "whsec_", "whsec_not base64", "whsec_AAAA!AAAA", "whsec_é", "whsec_====", "whsec_A", "   "])
def test_a_secret_that_is_none_is_refused_without_being_shown(secret: str) -> None:
    with pytest.raises(ValueError, match="secret must be `whsec_`") as caught:
        WebhookVerifier(secret)
    assert "not base64" not in str(caught.value)


@all_cases("spelling", ["{}", "{}\n", "whsec_{}", " whsec_{} "])
def test_a_secret_is_taken_as_people_paste_it(spelling: str) -> None:
    bare = SECRET.removeprefix("whsec_")
    delivery = Delivery()
    assert verifier(spelling.format(bare)).verify(delivery.headers, delivery.body)
    assert verifier(spelling.format(bare.rstrip("="))).verify(delivery.headers, delivery.body)


@pytest.mark.parametrize("tolerance", [-1.0, float("nan"), float("inf")])
def test_a_tolerance_that_is_none_is_refused(tolerance: float) -> None:
    with pytest.raises(ValueError, match="tolerance must be"):
        WebhookVerifier(SECRET, tolerance=tolerance)


def test_the_verifier_does_not_show_or_give_away_its_secrets() -> None:
    one = verifier(SECRET, OTHER_SECRET)
    key = base64.b64decode(SECRET.removeprefix("whsec_"))
    assert repr(one) == "<WebhookVerifier of 2 secrets, 300 s of tolerance>"
    assert SECRET[6:] not in repr(one)
    assert key.decode() not in repr(one)
    for transfer in (pickle.dumps, copy.copy, copy.deepcopy):
        with pytest.raises(TypeError, match="cannot be pickled"):
            transfer(one)


def test_the_error_is_one_of_ours() -> None:
    assert issubclass(WebhookVerificationError, CodatError)


def test_the_tests_signature_depends_on_everything() -> None:
    signatures = {sign(SECRET, "a", "1", b"x"), sign(OTHER_SECRET, "a", "1", b"x"), sign(SECRET, "b", "1", b"x")}
    signatures |= {sign(SECRET, "a", "2", b"x"), sign(SECRET, "a", "1", b"y")}
    assert len(signatures) == 5


def sign_by_standardwebhooks(secret: str, webhook_id: str, sent_at: datetime, body: str) -> str:
    return standardwebhooks.Webhook(secret).sign(webhook_id, sent_at, body)


def sign_by_svix(secret: str, webhook_id: str, sent_at: datetime, body: str) -> str:
    import svix  # noqa: PLC0415 - it takes half a second, which only the worker of these tests waits for

    return svix.Webhook(secret).sign(webhook_id, sent_at, body)


Sign = Callable[[str, str, datetime, str], str]


@pytest.mark.parametrize("sign_by", [sign_by_standardwebhooks, sign_by_svix])
@given(IDS, st.text(st.characters(exclude_categories=["Cs"])), st.binary(min_size=1, max_size=64))
def test_signatures_of_other_implementations_are_accepted(
    sign_by: Sign, webhook_id: str, text: str, key: bytes
) -> None:
    secret = "whsec_" + base64.b64encode(key).decode()
    signature = sign_by(secret, webhook_id, datetime.fromtimestamp(NOW, UTC), text)
    headers = {"webhook-id": webhook_id, "webhook-timestamp": str(NOW), "webhook-signature": signature}
    assert verifier(secret).verify(headers, text.encode()) == webhook_id
    assert verifier(OTHER_SECRET, secret).verify(headers, text.encode()) == webhook_id
    assert_refused(headers, text.encode() + b" ", verifier(secret))
    assert_refused(headers, text.encode(), verifier(OTHER_SECRET))


@given(st.binary().map(lambda raw: b"v1," + raw))
def test_other_implementations_and_ours_refuse_the_same_signatures(signature: bytes) -> None:
    import svix  # noqa: PLC0415 - likewise

    now = str(int(time.time()))
    headers = {**Delivery(timestamp=now).headers, "webhook-signature": signature.decode("latin-1")}
    assert_refused(headers, Delivery().body, WebhookVerifier(SECRET))
    for other, error in (
        (standardwebhooks.Webhook(SECRET), standardwebhooks.WebhookVerificationError),
        (svix.Webhook(SECRET), svix.WebhookVerificationError),
    ):
        # They raise what base64 raises, too.
        with pytest.raises((error, ValueError)):
            other.verify(Delivery().body, headers)


def test_webhooks_need_no_library_beyond_the_required_ones() -> None:
    program = (
        "import sys; sys.modules['standardwebhooks'] = sys.modules['svix'] = None; import codat_commerce_async.webhooks"
    )
    checkout = Path(__file__).parents[1]
    subprocess.run([sys.executable, "-c", program], cwd=checkout, check=True)  # noqa: S603 - this interpreter, and what stands here


@all_cases(
    ("secrets", "tolerance"),
    [
        (("whsec_one$wrong",), 1.0),
        ((SECRET, "whsec_one$wrong"), 1.0),
        (("whsec_one$wrong", SECRET), 1.0),
        ((SECRET, OTHER_SECRET), -1.0),
    ],
)
def test_no_frame_of_a_refused_verifier_holds_a_secret(secrets: tuple[str, ...], tolerance: float) -> None:
    with pytest.raises(ValueError, match=r"secret|tolerance") as caught:
        WebhookVerifier(*secrets, tolerance=tolerance)
    ours = [
        frame for frame, _ in walk_tb(caught.value.__traceback__) if "codat_commerce_async" in frame.f_code.co_filename
    ]
    assert ours
    shown = repr([frame.f_locals for frame in ours])
    assert "one$wrong" not in shown
    for secret in (SECRET, OTHER_SECRET):
        assert secret not in shown
        assert base64.b64decode(secret.removeprefix("whsec_")).decode() not in shown
