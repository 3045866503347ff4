"""Medians over rounds, as Markdown."""

from statistics import median


class Results:
    """Figures of every row, by contestant and round."""

    def __init__(self):
        self.rounds = {}  # (row, contestant): figures by round
        self.wrong = {}  # (row, contestant): why nothing counts

    def add(self, row, contestant, figures):
        self.rounds.setdefault((row, contestant), []).append(figures)

    def spoil(self, row, contestant, why):
        """One wrong answer, in whichever round, and no figure of that row counts."""
        self.wrong.setdefault((row, contestant), str(why))

    def is_spoilt(self, row, contestant):
        return (row, contestant) in self.wrong

    def table(self, row, contestants):
        """One line for each contestant; ratios are of the first to the others."""
        first = contestants[0]
        names = next((list(figures[0]) for (of, who), figures in self.rounds.items()
                      if of == row and not self.is_spoilt(of, who)), ["figures"])
        lines = [f"| proxy | {' | '.join(names)} | {first} ÷ it, {names[0]} |",
                 "|---" * (len(names) + 2) + "|"]
        for who in contestants:
            if self.is_spoilt(row, who):
                why = " ".join(self.wrong[row, who].split()).replace("|", "/")
                cells = [f"void: {why[:200]}"]
                cells += [""] * len(names)
            else:
                rounds = self.rounds[row, who]
                cells = [spread([figures[name] for figures in rounds]) for name in names]
                cells.append(self.ratio(row, first, who, names[0]))
            lines.append(f"| {who} | {' | '.join(cells)} |")
        return "\n".join(lines)

    def ratio(self, row, first, who, name):
        """Taken within each round, because the machine is not the same from one to the next."""
        if who == first or self.is_spoilt(row, first):
            return ""
        pairs = zip(self.rounds[row, first], self.rounds[row, who])
        return spread([ours[name] / theirs[name] for ours, theirs in pairs if theirs[name] > 0])


def spread(values):
    """The median, and in parentheses the least and the greatest."""
    if not values:
        return "–"
    middle = number(median(values))
    if len(values) == 1:
        return middle
    return f"{middle} ({number(min(values))}–{number(max(values))})"


def number(value):
    """Three digits that mean something."""
    if abs(value) >= 100:
        return f"{value:,.0f}"
    return f"{value:.1f}" if abs(value) >= 10 else f"{value:.2f}"
