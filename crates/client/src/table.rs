//! Aligned columns, printed row by row: a million rows take no more memory than ten.

use crate::{
    clean::clean,
    screen::{Paint, Screen},
};
use unicode_width::{UnicodeWidthChar, UnicodeWidthStr};

/// Space between columns.
const GAP: usize = 2;

/// A column.
#[derive(Debug, Clone)]
pub(crate) struct Column {
    title: &'static str,
    width: usize,
    right: bool,
    /// Whether it may be made narrower, down to 12, to fit the terminal.
    gives_way: bool,
}

impl Column {
    /// A column of that width, aligned to the left.
    pub(crate) fn left(title: &'static str, width: usize) -> Self {
        Self {
            title,
            width,
            right: false,
            gives_way: false,
        }
    }

    /// A column of that width, aligned to the right.
    pub(crate) fn right(title: &'static str, width: usize) -> Self {
        Self {
            right: true,
            ..Self::left(title, width)
        }
    }

    /// The same, but cut on a narrow terminal and widened on a wide one.
    pub(crate) fn gives_way(self) -> Self {
        Self {
            gives_way: true,
            ..self
        }
    }
}

/// What stands in a column.
#[derive(Debug, Clone)]
pub(crate) struct Cell {
    text: String,
    paint: Paint,
}

impl Cell {
    /// A text, cleaned.
    pub(crate) fn new(text: &str) -> Self {
        Self::painted(text, Paint::Plain)
    }

    /// A text in a colour, cleaned.
    pub(crate) fn painted(text: &str, paint: Paint) -> Self {
        Self {
            text: clean(text).into_owned(),
            paint,
        }
    }
}

/// Columns of fixed width.
#[derive(Debug, Clone)]
pub(crate) struct Table {
    columns: Vec<Column>,
    /// Whether cells too wide are cut. Only for terminals: data for other programs stays whole.
    cut: bool,
}

impl Table {
    /// A table that fits the terminal, if there is one.
    pub(crate) fn new(columns: Vec<Column>) -> Self {
        Self::with_width(columns, Screen::width())
    }

    fn with_width(mut columns: Vec<Column>, terminal: Option<usize>) -> Self {
        if let Some(terminal) = terminal {
            let gaps = GAP * columns.len().saturating_sub(1);
            let total = gaps + columns.iter().map(|column| column.width).sum::<usize>();
            for column in columns.iter_mut().filter(|column| column.gives_way) {
                let room = (column.width + terminal).saturating_sub(total);
                column.width = room.clamp(12, 80);
            }
        }
        Self {
            columns,
            cut: terminal.is_some(),
        }
    }

    /// The line of titles.
    pub(crate) fn header(&self, screen: &Screen) -> String {
        let cells = self
            .columns
            .iter()
            .map(|column| Cell::painted(column.title, Paint::Bold));
        self.row(&cells.collect::<Vec<_>>(), screen)
    }

    /// Gives a column the width of what will stand in it, where there is no terminal to fit.
    pub(crate) fn fit<'a>(&mut self, title: &str, texts: impl Iterator<Item = &'a str>) {
        if self.cut {
            return;
        }
        if let Some(column) = self.columns.iter_mut().find(|column| column.title == title) {
            let widest = texts.map(|text| clean(text).width()).max().unwrap_or(0);
            column.width = widest.clamp(column.title.width(), 80);
        }
    }

    /// A line. What is too long pushes the rest to the right only as far as it must.
    pub(crate) fn row(&self, cells: &[Cell], screen: &Screen) -> String {
        let mut line = String::new();
        let last = cells.len().saturating_sub(1);
        // Where the line is, and where the present column ends, in columns of the terminal.
        let (mut at, mut end) = (0, 0);
        for (index, (column, cell)) in self.columns.iter().zip(cells).enumerate() {
            let text = if self.cut && index < last {
                cut(&cell.text, column.width)
            } else {
                cell.text.clone()
            };
            let width = text.width();
            let start = if column.right {
                (end + column.width).saturating_sub(width)
            } else {
                end
            };
            let start = start.max(at);
            line.push_str(&" ".repeat(start - at));
            line.push_str(&screen.paint(cell.paint, &text));
            at = start + width;
            end += column.width + GAP;
            // Two cells never touch.
            if index < last {
                line.push_str(&" ".repeat(GAP));
                at += GAP;
            }
        }
        line.truncate(line.trim_end().len());
        line.push('\n');
        line
    }
}

/// The text in at most `width` columns: its end stays, which tells files apart best.
fn cut(text: &str, width: usize) -> String {
    if text.width() <= width {
        return text.to_owned();
    }
    let mut room = width.saturating_sub(1);
    let mut start = text.len();
    for (at, c) in text.char_indices().rev() {
        let wide = c.width().unwrap_or(0);
        if wide > room {
            break;
        }
        room -= wide;
        start = at;
    }
    format!("…{}", &text[start..])
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::screen::Talk;

    fn columns() -> Vec<Column> {
        vec![
            Column::left("NAME", 20).gives_way(),
            Column::right("TIME", 6),
            Column::left("NOTE", 8),
        ]
    }

    #[test]
    fn columns_are_aligned_by_what_is_seen() {
        let screen = Screen::new(Talk::Normal, false);
        let table = Table::with_width(columns(), None);
        let row = |name| {
            table.row(
                &[Cell::new(name), Cell::new("7 ms"), Cell::new("new")],
                &screen,
            )
        };
        assert_eq!(
            table.header(&screen),
            "NAME                    TIME  NOTE\n"
        );
        assert_eq!(row("cat.jpg"), "cat.jpg                 7 ms  new\n");
        assert_eq!(row("猫.jpg"), "猫.jpg                  7 ms  new\n");
        assert_eq!(
            row("a\x1b[31m"),
            "a\u{fffd}[31m                  7 ms  new\n"
        );
    }

    #[test]
    fn only_terminals_cut() {
        let screen = Screen::new(Talk::Normal, false);
        let name = "photos/2026/november/a-long-name.jpg";
        let cells = [Cell::new(name), Cell::new("7 ms"), Cell::new("")];
        let whole = Table::with_width(columns(), None).row(&cells, &screen);
        assert!(whole.starts_with(name));
        let narrow = Table::with_width(columns(), Some(40)).row(&cells, &screen);
        assert_eq!(narrow, "…ember/a-long-name.jpg    7 ms\n");
    }

    #[test]
    fn colours_do_not_count() {
        let screen = Screen::new(Talk::Normal, true);
        let table = Table::with_width(columns(), None);
        let row = table.row(
            &[
                Cell::painted("x", Paint::Red),
                Cell::new("1"),
                Cell::new(""),
            ],
            &screen,
        );
        assert_eq!(row, format!("\x1b[31mx\x1b[0m{}1\n", " ".repeat(26)));
    }
}
