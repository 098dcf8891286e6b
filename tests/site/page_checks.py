"""What can be wrong with a page in a browser, as lists of sentences: empty is well."""

from playwright.sync_api import BrowserContext, Page

# Images that did not load, formulas that were not typeset, and what sticks out to the
# right. In a table, a code block or a formula that scrolls by itself, nothing does.
FAULTS = r"""
async () => {
  await window.MathJax?.startup?.promise;
  const faults = [];
  const article = document.querySelector("article");
  if (!article) return ["no article"];
  const said = (element) =>
    element.textContent.trim().replace(/\s+/g, " ").slice(0, 60);

  if (!document.title) faults.push("no title");
  const headings = document.querySelectorAll("h1");
  if (headings.length !== 1) faults.push(`${headings.length} first-level headings`);

  for (const image of document.images) {
    // The browser loads one that is far below only when it comes into view.
    image.loading = "eager";
    await image.decode().catch(() => {});
    if (!image.naturalWidth) faults.push(`image not loaded: ${image.src}`);
  }

  for (const math of document.querySelectorAll(".math")) {
    const drawn = math.querySelector("mjx-container")?.getBoundingClientRect().width;
    if (!drawn || math.querySelector("mjx-merror"))
      faults.push(`formula not drawn: ${said(math)}`);
  }
  const prose = article.cloneNode(true);
  prose.querySelectorAll(".math, pre, code").forEach((element) => element.remove());
  const source = prose.textContent.match(/.{0,30}(\$|\\[a-zA-Z([]).{0,30}/);
  if (source) faults.push(`formula left as text: ${source[0]}`);

  const scrolls = (element) =>
    element !== article &&
    (["auto", "scroll"].includes(getComputedStyle(element).overflowX) ||
      scrolls(element.parentElement));
  for (const element of article.querySelectorAll("*")) {
    const { right, width } = element.getBoundingClientRect();
    if (width && right > innerWidth + 1 && !scrolls(element.parentElement))
      faults.push(`${Math.round(right - innerWidth)} px too wide: ${said(element)}`);
  }
  const over = document.documentElement.scrollWidth - innerWidth;
  if (over > 0) faults.push(`the page is ${over} px too wide`);
  return faults;
}
"""


def faults(page: Page) -> list[str]:
    """What a reader of the page would see to be wrong."""
    return page.evaluate(FAULTS)


def watch(context: BrowserContext, address: str) -> list[str]:
    """The list that fills up with errors and failed requests, as long as pages load.

    A request to anywhere but ``address`` counts as one: the site is to be read without
    a network, and tells nobody who reads it.
    """
    problems: list[str] = []

    def requested(request):
        if not request.url.startswith((address, "data:", "blob:")):
            problems.append(f"asks elsewhere: {request.url}")

    def answered(response):
        if response.status >= 400:
            problems.append(f"status {response.status}: {response.url}")

    def said(message):
        if message.type in ("error", "warning"):
            problems.append(f"console, {message.type}: {message.text}")

    def failed(request):
        # Aborted is what was still on its way when the reader went on to another page.
        if request.failure != "net::ERR_ABORTED":
            problems.append(f"failed: {request.url}")

    context.on("request", requested)
    context.on("response", answered)
    context.on("requestfailed", failed)
    context.on("console", said)
    context.on("weberror", lambda e: problems.append(f"exception: {e.error}"))
    return problems
