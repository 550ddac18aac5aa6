"""The site in two languages: a link between them on each page, and a search that finds Chinese."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from sphinx.application import Sphinx
from sphinx.search.zh import SearchChinese

CHINESE = "zh_CN"
GENERATED = "本页由程序从代码生成，只有英文版。"
NOT_YET = "本页尚未翻译，以下为英文原文。"

# What makes a question of some words, and is searched for nowhere.
ASKING = (
    "是什么意思|什么意思|是什么|什么是|怎么办|怎么样|怎么|怎样|如何|为什么|什么|哪一?[个种些]|有没有|能不能|可以|[吗呢]"
)
# Of a question's pairs those are searched for that stand on the one page that has most of them: the rest lies
# across two words, as 么续 in 怎么续训. A heading's pair counts twice, and headings bring a page up in the results. The
# contents name every page, so they are not asked. Latin words are searched for as they are.
SPLIT_QUERY = r"""
var splitQuery = function (query) {
  var index = typeof Search === "undefined" ? null : Search._index;
  var runs = function (text) { return text.match(/[a-zA-Z0-9_]+|[\u3400-\u9fff]+/g) || []; };
  var latin = function (word) { return word < "\u3400"; };
  var asked = runs(query.replace(/ASKING/g, " "));
  var words = (asked.length ? asked : runs(query)).flatMap(function (run) {
    if (latin(run) || run.length < 3) return [run];
    return Array.from({length: run.length - 1}, function (_, place) { return run.slice(place, place + 2); });
  });
  if (!index) return words;
  var stemmer = new Stemmer();
  var pages = function (table, word) {
    var stem = stemmer.stemWord(word.toLowerCase());
    return Object.hasOwn(table, stem) ? [].concat(table[stem]) : [];
  };
  var both = function (word) { return pages(index.terms, word).concat(pages(index.titleterms, word)); };
  var hits = index.docnames.map(function () { return 0; });
  words.forEach(function (word) {
    both(word).concat(pages(index.titleterms, word)).forEach(function (page) { hits[page] += latin(word) ? 100 : 1; });
  });
  hits[index.docnames.indexOf("index")] = 0;
  var best = hits.indexOf(Math.max.apply(null, hits));
  var kept = words.filter(function (word) { return latin(word) || !hits[best] || both(word).includes(best); });
  if (typeof Scorer !== "undefined") Scorer.score = function (result) {
    var page = index.docnames.indexOf(result[0]);
    return result[4] + kept.filter(function (word) { return pages(index.titleterms, word).includes(page); }).length;
  };
  return kept;
};
""".replace("ASKING", ASKING)


class ChineseByPairs(SearchChinese):
    """Every two neighbouring characters are a word, in the pages as in what is typed; no dictionary is needed."""

    lang = "zh"
    # Sphinx 9 names the stemmer of the browser after the language; Latin words are stemmed as English.
    language_name = "English"
    stopwords = SearchChinese.stopwords | {"怎么", "怎样", "如何", "什么", "为什", "哪个", "哪些"}
    js_splitter_code = SPLIT_QUERY

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
    app.add_search_language(ChineseByPairs)
    app.add_css_file("languages.css")
    app.connect("html-page-context", context)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
