"""The words that hold a question together and say little about its topic."""

from __future__ import annotations

import re

from kotaemon_grpc.retrieval.analysis import terms

_ENGLISH = frozenset(
    terms(
        "a about above after again against all also am an and any are as at be because been before"
        " being below between both but by can could did do does doing down during each few for from"
        " further had has have having he her here hers him his how i if in into is it its itself"
        " just me might more most my no nor not of off on once only or other our out over own same"
        " shall she should so some such than that the their them then there these they this those"
        " through to too under until up very was we were what when where which while who whom whose"
        " why will with would you your s t d ll m re ve"
    )
)
_CHINESE = re.compile(
    "哪些|哪个|哪里|哪一|哪年|哪|什么时候|什么时间|什么地方|什么|何时|何地|何|多少|多大|多长|多高|多久|怎么样|怎么|怎样|如何"
    "|为什么|为何|有哪些|请问|几个|几|是谁|谁|吗|呢|吧|的|了|是|在|由|被|从|到|与|及|從|與"
    "|我们|你们|他们|她们|它们|我們|你們|他們|她們|它們|我|你|他|她|它|这里|那里|这|那|這裡|那裡|這"
    "|哪裡|什麼時候|什麼時間|什麼地方|什麼|何時|怎麼樣|怎麼|怎樣|為什麼|請問|幾個|幾|嗎|誰"
)


def content_terms(text: str) -> list[str]:
    """Return the terms of a question that carry its topic, in order, each once.

    Left out are function and question words and, in Chinese, the bigrams that
    reach into one. Empty when the text has nothing else.
    """
    inside = set(terms(_CHINESE.sub(" ", text)))
    return [t for t in dict.fromkeys(terms(text)) if t in inside and t not in _ENGLISH]
