"""Questions that ask for a number or a date, and sentences that hold one."""

from __future__ import annotations

import re

_ASKED = re.compile(
    r"\bhow (?:many|much|long|far|old|tall|large|big|high|often|fast)\b|\bwhen\b"
    r"|\b(?:what|which) (?:percent\w*|number|year|date|century|age)\b"
    r"|多少|多大|多长|多高|多久|几|哪一?[年天月日]|何时|什么时候|什么时间"
    r"|多長|幾|何時|什麼時候|什麼時間",
    re.IGNORECASE,
)
_HELD = re.compile(
    r"\d|\b(?:one|two|three|four|five|six|seven|eight|nine|ten|eleven|twelve|dozen|twenty|thirty"
    r"|forty|fifty|hundred|thousand|million|billion|half|third|quarter)\b"
    r"|[一二三四五六七八九十百千万亿两萬億兩]+[个年月日世人名次座位家所条种间部岁個條種間歲]",
    re.IGNORECASE,
)


def asks_for_quantity(question: str) -> bool:
    """Tell whether a number or a date would answer a question."""
    return _ASKED.search(question) is not None


def has_quantity(sentence: str) -> bool:
    """Tell whether a sentence holds a number or a date, in digits or in words."""
    return _HELD.search(sentence) is not None
