from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bridges.matrix.html import MAX_DEPTH, html_of, is_plain, markdown_of, parse, sanitize


@pytest.mark.parametrize(
    ("html", "safe"),
    [
        ("<b>bold</b> & text", "<b>bold</b> &amp; text"),
        ("<font color=red>x</font>", "x"),
        ('<p onclick="x()" style="y">z</p>', "<p>z</p>"),
        ("a<script>evil()</script>b<style>p{}</style>c", "abc"),
        ("<mx-reply>quote</mx-reply>answer", "answer"),
        ('<a href="javascript:x()">l</a>', "<a>l</a>"),
        (
            '<a href="https://x.example/?a=1&amp;b=&quot;">l</a>',
            '<a href="https://x.example/?a=1&amp;b=&quot;">l</a>',
        ),
        ('<code class="language-py">x</code>', '<code class="language-py">x</code>'),
        ('<code class="evil other">x</code>', "<code>x</code>"),
        ('<ol start="3"><li>x</ol>', '<ol start="3"><li>x</li></ol>'),
        ('<ol start="x">y</ol>', "<ol>y</ol>"),
        ("<b>never closed", "<b>never closed</b>"),
        ("</p>never opened", "<p></p>never opened"),
        ("</b>never opened", "never opened"),
        ('<a href="/path">l</a><a href="//x.example">m</a>', "<a>l</a><a>m</a>"),
        ('<a href="JavaScript&colon;x()">l</a><a href=" javascript:x">m</a>', "<a>l</a><a>m</a>"),
        ('<ol start="\u0663"><li>x</li></ol>', "<ol><li>x</li></ol>"),
        ("half \ud800 a character", "half ? a character"),
        ("line<br>break<hr/>", "line<br>break<hr>"),
        ('<span data-mx-spoiler="why">x</span>', '<span data-mx-spoiler="why">x</span>'),
        ('<img src="mxc://x/y" alt="z">', ""),
        ("<!-- comment -->x", "x"),
    ],
)
def test_only_what_matrix_allows_remains(html: str, safe: str) -> None:
    assert sanitize(html) == safe


@pytest.mark.parametrize(
    "html",
    [
        "<svg><style><img src=x onerror=alert(1)></style></svg>",
        '<math><mtext><table><mglyph><style><!--</style><img title="--&gt;&lt;img src onerror=alert(1)&gt;">',
        '<noscript><p title="</noscript><img src=x onerror=alert(1)>">',
        "<form><math><mtext></form><form><mglyph><style></math><img src onerror=alert(1)>",
        '<b title="<script>alert(1)</script>">x</b>',
        "<scr<script>ipt>alert(1)</scr</script>ipt>",
        '<iframe srcdoc="<script>alert(1)</script>"></iframe>',
        "<template><script>alert(1)</script></template>",
        "<img src=x onerror=alert(1)//",
        '<a href="data:text/html,<script>alert(1)</script>" onmouseover=alert(1)>x</a>',
        '<p style="background:url(javascript:alert(1))">x</p>',
        "<base href=https://evil.example/><a href=x>y</a>",
        "<meta http-equiv=refresh content=0;url=https://evil.example/>",
    ],
)
def test_hostile_html_is_text_between_allowed_tags_without_its_attributes(html: str) -> None:
    safe = sanitize(html)
    tags = set(re.findall(r"<[^>]*>", safe))
    assert tags <= {"<b>", "</b>", "<a>", "</a>", "<p>", "</p>", "<table>", "</table>"}
    assert "<" not in re.sub(r"<[^>]*>", "", safe)
    assert "<img" not in markdown_of(html)


@pytest.mark.parametrize(
    ("html", "markdown"),
    [
        ("<p>one</p><p>two</p>", "one\n\ntwo"),
        ("<b>b</b> <i>i</i> <del>d</del> <code>c</code>", "**b** _i_ ~~d~~ `c`"),
        ("a * b _ c", "a \\* b \\_ c"),
        ("1 &lt; 2 &amp; 3", "1 &lt; 2 &amp; 3"),
        ("a<br>b", "a\\\nb"),
        ('<a href="https://x.example/y">z</a>', "[z](<https://x.example/y>)"),
        ('<a href="data:x">z</a>', "z"),
        ("<ul><li>one</li><li>two</li></ul>", "- one\n- two"),
        ('<ol start="4"><li>one</li><li>two</li></ol>', "4. one\n5. two"),
        ("<blockquote>said<br>he</blockquote>", "> said\\\n> he"),
        ('<pre><code class="language-py">x = 1\n</code></pre>', "```py\nx = 1\n```"),
        ("<pre>```</pre>", "````\n```\n````"),
        ("<code>a`b</code>", "``a`b``"),
        ("<h2>title</h2>", "## title"),
        ("<hr>", "---"),
        ("<table><tr><th>a</th><th>b</th></tr><tr><td>1</td><td>2</td></tr></table>", "a | b\n1 | 2"),
        ("<p># not a title</p>", "\\# not a title"),
        ("<u>under</u>", "under"),
        ('<img alt="a cat">', "a cat"),
    ],
)
def test_html_becomes_markdown(html: str, markdown: str) -> None:
    assert markdown_of(html) == markdown


@pytest.mark.parametrize(
    ("markdown", "html"),
    [
        ("**b** _i_ ~~s~~", "<p><strong>b</strong> <em>i</em> <s>s</s></p>"),
        ("<b>x</b>", "<p>&lt;b&gt;x&lt;/b&gt;</p>"),
        ("[x](javascript:y)", "<p>[x](javascript:y)</p>"),
        ("- a\n- b", "<ul>\n<li>a</li>\n<li>b</li>\n</ul>"),
        ("```py\nx\n```", '<pre><code class="language-py">x\n</code></pre>'),
    ],
)
def test_markdown_becomes_html(markdown: str, html: str) -> None:
    assert html_of(markdown) == html


def test_nesting_has_a_bound() -> None:
    html = "<b>" * 5000 + "x" + "</b>" * 5000
    safe = sanitize(html)
    deepest = depth = 0
    for tag in re.findall("</?b>", safe):
        depth += 1 if tag == "<b>" else -1
        deepest = max(deepest, depth)
    assert MAX_DEPTH <= deepest <= MAX_DEPTH + 1
    assert "x" in safe
    assert "x" in markdown_of(html)
    link = '<a href="https://x.example/?a=1&amp;b=&quot;">l &lt;</a>'
    assert sanitize(f"{link}<br>{'<i>' * 101}").startswith(f"{link}<br><i>")


def test_whether_html_says_more_than_its_text() -> None:
    assert is_plain("<p>x &amp; y</p>", "x & y")
    assert not is_plain("<p><b>x</b></p>", "x")
    assert not is_plain("<p>x</p>", "y")


@given(st.text(alphabet="<>/=\"' abpscript:onmx-&;#", max_size=200))
def test_sanitizing_is_total_and_sanitizing_again_changes_nothing(html: str) -> None:
    once = sanitize(html)
    assert sanitize(once) == once
    markdown_of(html)
    html_of(html)


@given(st.text(max_size=200))
def test_escaped_text_comes_back_through_markdown(text: str) -> None:
    from html import escape

    words = " ".join(text.split())
    back = html_of(markdown_of(f"<p>{escape(words)}</p>"))
    got = "".join(_texts(parse(back)))
    assert " ".join(got.split()) == words.replace("\x00", "\ufffd")


def _texts(element: object) -> list[str]:
    if isinstance(element, str):
        return [element]
    return [text for child in getattr(element, "children", ()) for text in _texts(child)]
