"""Matrix's HTML and MIMI's Markdown, each into the other, and HTML made safe.

What is not on Matrix's list of tags is dropped and its text kept; what may hold no text for people (scripts,
styles, the quoted fallback of a reply) is dropped whole. A library that parses as browsers do decides that.
Markdown is made from a small tree: parse once, then render.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, field
from html import escape
from html.parser import HTMLParser

import nh3
from markdown_it import MarkdownIt

# Client-Server API, "m.room.message msgtypes": the tags clients may send, less tables' and details' rarer
# attributes.
_ALLOWED: dict[str, tuple[str, ...]] = {
    **dict.fromkeys(
        (
            "b",
            "blockquote",
            "br",
            "caption",
            "del",
            "details",
            "em",
            "h1",
            "h2",
            "h3",
            "h4",
            "h5",
            "h6",
            "hr",
            "i",
            "li",
            "p",
            "pre",
            "s",
            "strong",
            "sub",
            "summary",
            "sup",
            "table",
            "tbody",
            "td",
            "th",
            "thead",
            "tr",
            "u",
            "ul",
        ),
        (),
    ),
    "a": ("href",),
    "code": ("class",),
    "ol": ("start",),
    "span": ("data-mx-spoiler",),
}
_DROPPED_WHOLE = frozenset({"script", "style", "mx-reply", "title", "template", "iframe", "object"})
_VOID = frozenset(
    {"br", "hr", "img", "input", "meta", "link", "wbr", "col", "area", "base", "embed", "source"}
)
_SCHEMES = ("https:", "http:", "ftp:", "mailto:", "magnet:", "mimi:")
# Client-Server API: "clients should limit the maximum depth of nested tags to 100".
MAX_DEPTH = 100
_LANGUAGE = re.compile(r"language-[A-Za-z0-9_+#.-]{1,50}")
_MARKDOWN_SPECIAL = re.compile(r"([\\`*_\[\]~])")
_LINE_SPECIAL = re.compile(r"^(\s*)(>|-{2,}|=+|[#+-](?=[#\s]|$)|\d+(?=[.)](?:\s|$)))", re.MULTILINE)

LinkMap = Callable[[str], str]


@dataclass(slots=True)
class Element:
    """A tag with what is inside it; text is ``str``."""

    tag: str
    attributes: dict[str, str] = field(default_factory=dict)
    children: list[Element | str] = field(default_factory=list)


class _Builder(HTMLParser):
    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self.root = Element("")
        self._open = [self.root]

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        element = Element(tag, {name: value or "" for name, value in attrs})
        self._open[-1].children.append(element)
        if tag not in _VOID and len(self._open) <= MAX_DEPTH:
            self._open.append(element)

    def handle_endtag(self, tag: str) -> None:
        for depth in range(len(self._open) - 1, 0, -1):
            if self._open[depth].tag == tag:
                del self._open[depth:]
                return

    def handle_data(self, data: str) -> None:
        self._open[-1].children.append(data)


def parse(html: str) -> Element:
    """The tree of an HTML fragment; anything is a fragment."""
    builder = _Builder()
    builder.feed(html)
    builder.close()
    return builder.root


def sanitize(html: str, *, links: LinkMap = str) -> str:
    """The fragment with nothing but what Matrix allows; ``links`` maps every link's target."""

    def attribute(tag: str, name: str, value: str) -> str | None:
        return _attribute(name, links(value) if (tag, name) == ("a", "href") else value)

    clean = nh3.clean(
        html.encode(errors="replace").decode(),  # half a character is none
        tags=set(_ALLOWED),
        clean_content_tags=set(_DROPPED_WHOLE),
        # Without "*", some are allowed on every tag.
        attributes={"*": set(), **{tag: set(names) for tag, names in _ALLOWED.items() if names}},
        attribute_filter=attribute,
        url_schemes={scheme.removesuffix(":") for scheme in _SCHEMES},
        link_rel=None,
    )
    # Every level of nesting takes two tags.
    return _written(parse(clean)) if clean.count("<") > 2 * MAX_DEPTH else clean


def _attribute(name: str, value: str) -> str | None:
    """An attribute of an allowed name, if its value is allowed as well."""
    match name:
        case "href":
            allowed = value.lower().startswith(_SCHEMES)
        case "class":
            allowed = _LANGUAGE.fullmatch(value) is not None
        case "start":
            allowed = value.isascii() and value.isdigit()
        case _:
            allowed = True
    return value if allowed else None


def _written(element: Element) -> str:
    """A tree of allowed tags as HTML."""
    inner = "".join(
        escape(child, quote=False) if isinstance(child, str) else _written(child)
        for child in element.children
    )
    if not element.tag:
        return inner
    attributes = "".join(f' {name}="{escape(value)}"' for name, value in element.attributes.items())
    start = f"<{element.tag}{attributes}>"
    return start if element.tag in _VOID else f"{start}{inner}</{element.tag}>"


def markdown_of(html: str, *, links: LinkMap = str) -> str:
    """The fragment as Markdown (GFM-MIMI: "No HTML"); ``links`` maps every link's target."""
    text = _Markdown(links).blocks(parse(html))
    return re.sub(r"\n{3,}", "\n\n", text).strip()


_WRAPPED = {"strong": "**", "b": "**", "em": "_", "i": "_", "del": "~~", "s": "~~"}
_BLOCKS = frozenset(
    {
        "p",
        "div",
        "blockquote",
        "pre",
        "ul",
        "ol",
        "table",
        "hr",
        "details",
        "h1",
        "h2",
        "h3",
        "h4",
        "h5",
        "h6",
    }
)


class _Markdown:
    """Renders a tree as Markdown."""

    def __init__(self, links: LinkMap) -> None:
        self._links = links

    def blocks(self, element: Element) -> str:
        """The children as blocks with empty lines between them."""
        parts: list[str] = []
        line: list[str] = []
        for child in element.children:
            if isinstance(child, Element) and child.tag in _BLOCKS:
                parts += ["".join(line).strip(), self._block(child)]
                line = []
            else:
                line.append(self._inline(child))
        parts.append("".join(line).strip())
        return "\n\n".join(part for part in parts if part)

    def _block(self, element: Element) -> str:
        tag = element.tag
        match tag:
            case "pre":
                text = _fenced(element)
            case "hr":
                text = "---"
            case "ul" | "ol":
                text = self._list(element)
            case "blockquote":
                text = "\n".join(f"> {line}".rstrip() for line in self.blocks(element).split("\n"))
            case "table":
                text = "\n".join(self._row(row) for row in _descendants(element, "tr"))
            case "h1" | "h2" | "h3" | "h4" | "h5" | "h6":
                text = f"{'#' * int(tag[1])} {self.blocks(element)}"
            case _:
                text = self.blocks(element)
        return text

    def _list(self, element: Element) -> str:
        lines = []
        start = element.attributes.get("start", "1")
        number = int(start) if start.isdigit() else 1
        items = [child for child in element.children if isinstance(child, Element) and child.tag == "li"]
        for offset, item in enumerate(items):
            mark = f"{number + offset}. " if element.tag == "ol" else "- "
            body = self.blocks(item).replace("\n", "\n" + " " * len(mark))
            lines.append(mark + body)
        return "\n".join(lines)

    def _row(self, row: Element) -> str:
        cells = [child for child in row.children if isinstance(child, Element) and child.tag in ("td", "th")]
        return " | ".join(self.blocks(cell).replace("\n", " ") for cell in cells)

    def _inline(self, child: Element | str) -> str:
        if isinstance(child, str):
            return _escape_markdown(re.sub(r"\s+", " ", child))
        match child.tag:
            case "br":
                text = "\\\n"
            case "code":
                text = _code(_text(child))
            case "img":
                text = _escape_markdown(child.attributes.get("alt", ""))
            case tag if tag in _DROPPED_WHOLE:
                text = ""
            case _:
                text = self._wrapped(child)
        return text

    def _wrapped(self, element: Element) -> str:
        inner = "".join(
            self._inline(each) if isinstance(each, str) or each.tag not in _BLOCKS else self._block(each)
            for each in element.children
        )
        if element.tag == "a":
            target = self._links(element.attributes.get("href", ""))
            safe = target.lower().startswith(_SCHEMES)
            return f"[{inner}](<{re.sub(r'[<> ]', '', target)}>)" if safe else inner
        mark = _WRAPPED.get(element.tag, "")
        return f"{mark}{inner.strip()}{mark}" if mark and inner.strip() else inner


def _fenced(element: Element) -> str:
    code = next((child for child in element.children if isinstance(child, Element)), element)
    language = code.attributes.get("class", "")
    language = language.removeprefix("language-") if _LANGUAGE.fullmatch(language) else ""
    text = _text(element).strip("\n")
    longest = max((len(run) for run in re.findall(r"`+", text)), default=0)
    fence = "`" * max(3, longest + 1)
    return f"{fence}{language}\n{text}\n{fence}"


def _code(text: str) -> str:
    longest = max((len(run) for run in re.findall(r"`+", text)), default=0)
    fence = "`" * (longest + 1)
    pad = " " if text.startswith("`") or text.endswith("`") else ""
    return f"{fence}{pad}{text}{pad}{fence}"


def _escape_markdown(text: str) -> str:
    # GFM-MIMI: the opening angle bracket of any HTML tag "is replaced with `&lt;` before sending".
    escaped = _MARKDOWN_SPECIAL.sub(r"\\\1", text.replace("&", "&amp;").replace("<", "&lt;"))
    return _LINE_SPECIAL.sub(_escape_line, escaped)


def _escape_line(match: re.Match[str]) -> str:
    """What would begin a quotation, heading, list or rule does not: of a number its point is escaped."""
    if match[2].isdigit():
        return f"{match[1]}{match[2]}\\"
    return f"{match[1]}\\{match[2]}"


def _text(element: Element) -> str:
    return "".join(child if isinstance(child, str) else _text(child) for child in element.children)


def _descendants(element: Element, tag: str) -> list[Element]:
    found = []
    for child in element.children:
        if isinstance(child, Element):
            found += [child] if child.tag == tag else _descendants(child, tag)
    return found


_MARKDOWN = MarkdownIt("commonmark", {"html": False}).enable(["table", "strikethrough"])


def html_of(markdown: str, *, links: LinkMap = str) -> str:
    """Markdown as safe HTML; HTML tags in it are shown as text; ``links`` maps every link's target."""
    rendered = _MARKDOWN.render(markdown).strip()
    return sanitize(rendered, links=links)


def is_plain(html: str, text: str) -> bool:
    """Whether the HTML says nothing that ``text`` does not."""
    root = parse(html)
    children = root.children
    if len(children) == 1 and isinstance(children[0], Element) and children[0].tag == "p":
        children = children[0].children
    return all(isinstance(child, str) for child in children) and _text(root).strip() == text.strip()
