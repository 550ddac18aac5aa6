"""The site in two languages: a link between them on each page, and a search that takes questions in both."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from sphinx.application import Sphinx
from sphinx.search.en import SearchEnglish
from sphinx.search.zh import SearchChinese

CHINESE = "zh_CN"
GENERATED = "本页由程序从代码生成，只有英文版。"
NOT_YET = "本页尚未翻译，以下为英文原文。"

# What makes a question of some words, and is searched for nowhere.
ASKING = (
    "是什么意思|什么意思|是什么|什么是|怎么办|怎么样|怎么|怎样|如何|为什么|什么|哪一?[个种些]|有没有|能不能|可以|[吗呢]"
)
# Sphinx asks for pages with every word, and lists those that have them by their names. Here a question's words are
# those of the page that has most of them, where a heading's counts twice more; the others are dropped, such as 么续 in
# 怎么续训, which lies across two words, and so are words of more than half of the pages. Pages with these words in
# headings come first, those for maintainers last. The contents name every page, so they are not asked.
SEARCH = r"""
var splitQuery = function (query) {
  var index = typeof Search === "undefined" ? null : Search._index;
  var stemmer = new Stemmer();
  var pages = function (table, word) {
    var stem = stemmer.stemWord(word.toLowerCase());
    return Object.hasOwn(table, stem) ? [].concat(table[stem]) : [];
  };
  var both = function (word) { return pages(index.terms, word).concat(pages(index.titleterms, word)); };
  var words = wordsOf(query, function (word) { return index && both(word).length; });
  if (!index) return words;
  var share = function (word) { return new Set(both(word)).size / index.docnames.length; };
  var hits = index.docnames.map(function () { return 0; });
  words.forEach(function (word) {
    var value = weight(word, share(word));
    new Set(pages(index.terms, word)).forEach(function (page) { hits[page] += value; });
    new Set(pages(index.titleterms, word)).forEach(function (page) { hits[page] += 2 * value; });
  });
  hits[index.docnames.indexOf("index")] = 0;
  var best = hits.indexOf(Math.max.apply(null, hits));
  var found = words.filter(function (word) { return !hits[best] || both(word).includes(best); });
  var rare = found.filter(function (word) { return share(word) <= 0.5; });
  if (typeof Scorer !== "undefined") Scorer.score = function (result) {
    var page = index.docnames.indexOf(result[0]);
    var titles = found.filter(function (word) { return pages(index.titleterms, word).includes(page); });
    var last = /^(architecture|benchmarks|index|reference)/.test(result[0]);
    return titles.reduce(function (sum, word) { return sum + 1 - share(word); }, result[4]) - (last ? 8 : 0);
  };
  return rare.length ? rare : found;
};
"""
# Latin words are searched for as they are, runs of Chinese characters by their pairs.
CHINESE_WORDS = r"""
var weight = function (word) { return word < "\u3400" ? 100 : 1; };
var wordsOf = function (query) {
  var runs = function (text) { return text.match(/[a-zA-Z0-9_]+|[\u3400-\u9fff]+/g) || []; };
  var asked = runs(query.replace(/ASKING/g, " "));
  return (asked.length ? asked : runs(query)).flatMap(function (run) {
    if (run < "\u3400" || run.length < 3) return [run];
    return Array.from({length: run.length - 1}, function (_, place) { return run.slice(place, place + 2); });
  });
};
""".replace("ASKING", ASKING)
# `multi-label` is `multilabel` where the pages write it so.
ENGLISH_WORDS = r"""
var weight = function (word, share) { return Math.log(1 + 1 / (share + 0.01)); };
var wordsOf = function (query, known) {
  return (query.match(/[\p{L}\p{N}_]+(-[\p{L}\p{N}_]+)*/gu) || []).flatMap(function (word) {
    var joined = word.replace(/-/g, "");
    return known(joined) ? [joined] : word.split("-");
  }).filter(function (word) { return !stopwords.has(word.toLowerCase()) && !/^(can|use|using|want)$/i.test(word); });
};
"""


class EnglishQuestions(SearchEnglish):
    """English whose questions need not have every word on one page."""

    js_splitter_code = ENGLISH_WORDS + SEARCH


class ChineseByPairs(SearchChinese):
    """Every two neighbouring characters are a word, in the pages as in what is typed; no dictionary is needed."""

    lang = "zh"
    # Sphinx 9 names the stemmer of the browser after the language; Latin words are stemmed as English.
    language_name = "English"
    stopwords = SearchChinese.stopwords | {"怎么", "怎样", "如何", "什么", "为什", "哪个", "哪些"}
    js_splitter_code = CHINESE_WORDS + SEARCH

    def split(self, input: str) -> list[str]:  # noqa: A002  # Sphinx's name
        """Return Latin words, and the pairs of each run of Chinese characters."""
        latin = self.latin1_letters.findall(input)
        self.latin_terms.update(latin)
        runs = "".join(character if "\u3400" <= character <= "\u9fff" else " " for character in input).split()
        return latin + [run[place : place + 2] for run in runs for place in range(max(1, len(run) - 1))]


def context(app: Sphinx, page: str, template: str, values: dict[str, Any], tree: object) -> None:  # noqa: ARG001
    """Tell the templates where the page is in the other language; an English page among Chinese ones says so."""
    chinese = app.config.language == CHINESE
    up = "../" * (page.count("/") + chinese)
    values["other_language"] = f"{up}{'' if chinese else f'{CHINESE}/'}{page}.html"
    values["other_language_name"], values["other_language_tag"] = ("English", "en") if chinese else ("中文", "zh-CN")
    translated = (Path(app.srcdir) / "locale" / CHINESE / "LC_MESSAGES" / f"{page}.po").exists()
    if chinese and tree is not None and not translated:
        note = GENERATED if page.startswith("reference/") else NOT_YET
        values["body"] = f'<div class="admonition note"><p>{note}</p></div>\n<div lang="en">{values["body"]}</div>'


def setup(app: Sphinx) -> dict[str, Any]:
    """Register with Sphinx."""
    app.add_search_language(EnglishQuestions)
    app.add_search_language(ChineseByPairs)
    app.add_css_file("languages.css")
    app.connect("html-page-context", context)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
