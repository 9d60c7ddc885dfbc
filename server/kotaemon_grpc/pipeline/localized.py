# ruff: noqa: RUF001 - Chinese has a full-width comma
"""What a failure is to the people who use a client, in the languages that we have.

The sentences hold no data of a call, so that a client may show them as they are.
"""

from __future__ import annotations

from google.rpc.error_details_pb2 import LocalizedMessage

from kotaemon_grpc.pipeline.accept_language import best_language
from kotaemon_grpc.wire.reasons import Reason

LOCALES = {"en": "en", "zh": "zh-CN"}
"""The locale of each language (BCP 47). The first is for who reads none of them."""

SENTENCES: dict[Reason, dict[str, str]] = {
    Reason.INVALID_FIELD: {
        "en": "Something in the request is not valid. Please correct it.",
        "zh": "请求中有无效的内容，请改正。",
    },
    Reason.REQUEST_ID_REUSED: {
        "en": "This request cannot be told from an earlier one. Please send it anew.",
        "zh": "该请求与先前的请求冲突，请重新发送。",
    },
    Reason.COLLECTION_NOT_FOUND: {
        "en": "The collection does not exist.",
        "zh": "该文档集不存在。",
    },
    Reason.DOCUMENT_NOT_FOUND: {
        "en": "The document does not exist.",
        "zh": "该文档不存在。",
    },
    Reason.CONVERSATION_NOT_FOUND: {
        "en": "The conversation does not exist any more. Please start a new one.",
        "zh": "该对话已不存在，请开始新的对话。",
    },
    Reason.DOCUMENT_ALREADY_EXISTS: {
        "en": "The document exists already.",
        "zh": "该文档已经存在。",
    },
    Reason.CONVERSATION_ALREADY_EXISTS: {
        "en": "The conversation exists already.",
        "zh": "该对话已经存在。",
    },
    Reason.DOCUMENT_TOO_LARGE: {
        "en": "The document is too large.",
        "zh": "文档太大。",
    },
    Reason.STORAGE_FULL: {
        "en": "There is no room left to store this.",
        "zh": "存储空间已满。",
    },
    Reason.STORAGE_UNAVAILABLE: {
        "en": "The documents cannot be reached at the moment. Please try again later.",
        "zh": "暂时无法访问文档，请稍后再试。",
    },
    Reason.CREDENTIALS_MISSING: {
        "en": "Please sign in.",
        "zh": "请先登录。",
    },
    Reason.CREDENTIALS_MALFORMED: {
        "en": "Your sign-in cannot be read. Please sign in again.",
        "zh": "无法识别您的登录信息，请重新登录。",
    },
    Reason.CREDENTIALS_EXPIRED: {
        "en": "Your sign-in has expired. Please sign in again.",
        "zh": "您的登录已过期，请重新登录。",
    },
    Reason.CREDENTIALS_NOT_YET_VALID: {
        "en": "Your sign-in is not valid yet. Please check the clock of your device.",
        "zh": "您的登录尚未生效，请检查设备的时间。",
    },
    Reason.CREDENTIALS_NOT_TRUSTED: {
        "en": "Your sign-in is not accepted here.",
        "zh": "此处不接受您的登录信息。",
    },
    Reason.CREDENTIALS_REVOKED: {
        "en": "Your access has been withdrawn.",
        "zh": "您的访问权限已被撤销。",
    },
    Reason.CREDENTIALS_SOURCE_UNAVAILABLE: {
        "en": "Your sign-in cannot be checked at the moment. Please try again soon.",
        "zh": "暂时无法验证您的登录信息，请稍后再试。",
    },
    Reason.TLS_VERSION_TOO_OLD: {
        "en": "The connection is not safe enough. Please update your software.",
        "zh": "连接不够安全，请更新您的软件。",
    },
    Reason.METHOD_NOT_ALLOWED: {
        "en": "You are not allowed to do this.",
        "zh": "您没有权限执行此操作。",
    },
    Reason.COLLECTION_NOT_ALLOWED: {
        "en": "You are not allowed to use this collection.",
        "zh": "您没有权限使用该文档集。",
    },
    Reason.DEADLINE_EXCEEDED: {
        "en": "This took too long. Please try again.",
        "zh": "操作超时，请重试。",
    },
    Reason.STREAM_IDLE: {
        "en": "The connection was closed because nothing was sent for too long.",
        "zh": "长时间没有收到消息，连接已关闭。",
    },
    Reason.READER_TOO_SLOW: {
        "en": "The connection is too slow. Please try again.",
        "zh": "连接太慢，请重试。",
    },
    Reason.SHUTTING_DOWN: {
        "en": "The service is being restarted. Please try again.",
        "zh": "服务正在重启，请重试。",
    },
    Reason.OVERLOADED: {
        "en": "Too many people are asking at the moment. Please try again soon.",
        "zh": "当前请求过多，请稍后再试。",
    },
    Reason.RATE_LIMITED: {
        "en": "You are asking too often. Please wait a moment.",
        "zh": "您的请求过于频繁，请稍候。",
    },
    Reason.INTERNAL: {
        "en": "Something went wrong on our side. Please try again later.",
        "zh": "服务器出现问题，请稍后再试。",
    },
}


def localized_message(reason: Reason, languages: str) -> LocalizedMessage:
    """Return the sentence for a reason in the language that the caller reads best.

    Args:
        reason: why the call failed.
        languages: the caller's `accept-language`; "" for none.
    """
    language = best_language(languages, tuple(LOCALES))
    return LocalizedMessage(locale=LOCALES[language], message=SENTENCES[reason][language])
