"""The bounds of the contract, as the comments of proto/v2 state them."""

MAX_QUESTION_CHARS = 8192
MAX_TITLE_CHARS = 512
MAX_URI_CHARS = 2048
MAX_CONVERSATION_TITLE_CHARS = 256
MAX_REQUEST_ID_CHARS = 128
MAX_CONTEXT_ENTRIES = 32
MAX_CONTEXT_KEY_CHARS = 64
MAX_CONTEXT_VALUE_CHARS = 4096
MAX_LANGUAGE_CHARS = 35  # RFC 5646, section 4.4.1
MAX_SEARCH_PAGE_SIZE = 100
DEFAULT_SEARCH_PAGE_SIZE = 10
MAX_SEARCH_RESULTS = 1000  # over all pages; the work grows with what is passed over
MAX_PAGE_SIZE = 1000
MAX_TURNS_PAGE_SIZE = 100  # turns of the longest questions still fit the usual 4 MiB of a client
DEFAULT_PAGE_SIZE = 50
