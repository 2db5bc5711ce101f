// Prints all of the page: opens what is folded away, on white paper, and undoes it after.
{
  let folded = [];
  let theme;
  addEventListener("beforeprint", () => {
    folded = [...document.querySelectorAll("details:not([open])")];
    folded.forEach((details) => (details.open = true));
    theme = document.documentElement.dataset.theme;
    document.documentElement.dataset.theme = "light";
  });
  addEventListener("afterprint", () => {
    folded.forEach((details) => (details.open = false));
    document.documentElement.dataset.theme = theme;
  });
}
