"""The order in which extensions finish a book that Sphinx has written.

Several of them rewrite the same pages one after another. Each connects its part to
``build-finished`` with the priority of its name.
"""

ORDER = (
    "dark_figures",
    "offline_pages",
    "log_box",  # brings what its page loads
    "content_security",  # hashes the scripts of pages that no one changes after it
    "front_page",  # copies a page
    "chapter_execution",  # says where the book is
    "one_build",  # lets the next build in
)


def priority(extension: str) -> int:
    """Sphinx calls handlers of small numbers first; its own have 500.

    Example:
        >>> priority("offline_pages") < priority("content_security")
        True
    """
    return 900 + ORDER.index(extension)
