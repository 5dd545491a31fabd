//! Pictures as SVG: rectangles, lines, dots and text.
//!
//! They are shown on light and on dark pages, and need not be told which: nothing is behind them, and
//! all colours are of middle brightness.

use std::fmt::{Display, Write};

/// What text and lines look like; each colour is a class, too.
const STYLE: &str = "text{font:13px system-ui,sans-serif;fill:#7a7f87}.strong{font-weight:600}\
.end{text-anchor:end}.middle{text-anchor:middle}.grid{stroke:#7a7f87;stroke-opacity:.35}\
.range{stroke:#7a7f87;stroke-width:2}";

/// Colours that are told apart, also by those who see no red or no green.
const COLOURS: [&str; 5] = ["#4e79a7", "#f28e2b", "#59a14f", "#d1615d", "#b07aa1"];

/// A picture.
#[derive(Debug)]
pub(super) struct Svg {
    size: (f64, f64),
    body: String,
}

impl Svg {
    /// So wide and high.
    pub(super) const fn new(width: f64, height: f64) -> Self {
        Self {
            size: (width, height),
            body: String::new(),
        }
    }

    /// A rectangle in one of the colours; what it says is shown to a pointer that rests on it.
    pub(super) fn rect(&mut self, place: (f64, f64), size: (f64, f64), colour: usize, says: &str) {
        let _ = writeln!(
            self.body,
            r#"<rect x="{}" y="{}" width="{}" height="{}" class="c{}"><title>{}</title></rect>"#,
            number(place.0),
            number(place.1),
            number(size.0),
            number(size.1),
            colour % COLOURS.len(),
            escaped(says)
        );
    }

    /// A dot, as [`Svg::rect`].
    pub(super) fn dot(&mut self, place: (f64, f64), radius: f64, colour: usize, says: &str) {
        let _ = writeln!(
            self.body,
            r#"<circle cx="{}" cy="{}" r="{}" class="c{}"><title>{}</title></circle>"#,
            number(place.0),
            number(place.1),
            number(radius),
            colour % COLOURS.len(),
            escaped(says)
        );
    }

    /// A line of this class.
    pub(super) fn line(&mut self, from: (f64, f64), to: (f64, f64), class: &str) {
        let _ = writeln!(
            self.body,
            r#"<line x1="{}" y1="{}" x2="{}" y2="{}" class="{class}"/>"#,
            number(from.0),
            number(from.1),
            number(to.0),
            number(to.1)
        );
    }

    /// Text of these classes, which begins, ends or is centred at the place.
    pub(super) fn text(&mut self, place: (f64, f64), class: &str, text: &str) {
        let _ = writeln!(
            self.body,
            r#"<text x="{}" y="{}" class="{class}">{}</text>"#,
            number(place.0),
            number(place.1),
            escaped(text)
        );
    }

    /// All of it; the title is what it is for those who do not see it.
    pub(super) fn finish(self, title: &str) -> String {
        let (width, height) = (number(self.size.0), number(self.size.1));
        let mut style = STYLE.to_owned();
        for (place, colour) in COLOURS.iter().enumerate() {
            let _ = write!(style, ".c{place}{{fill:{colour}}}");
        }
        format!(
            "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{width}\" height=\"{height}\" \
             viewBox=\"0 0 {width} {height}\" role=\"img\">\n<title>{}</title>\n<style>{style}</style>\n\
             {}</svg>\n",
            escaped(title),
            self.body
        )
    }
}

/// To a hundredth of a pixel, without what says nothing.
fn number(value: f64) -> impl Display {
    (value * 100.0).round() / 100.0
}

fn escaped(text: &str) -> String {
    let text = text.replace('&', "&amp;").replace('<', "&lt;");
    text.replace('>', "&gt;")
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    /// The elements in their order, with their attributes, if tags, quotes and marks of a picture
    /// are as XML has them.
    pub(crate) fn elements(picture: &str) -> Vec<(String, Vec<(String, String)>)> {
        let (mut open, mut all) = (Vec::new(), Vec::new());
        let mut rest = picture;
        while let Some((text, tag)) = rest.split_once('<') {
            assert!(!text.contains('>'), "a > in {text:?}");
            for mark in text.split('&').skip(1) {
                let known = ["amp;", "lt;", "gt;"]
                    .iter()
                    .any(|known| mark.starts_with(known));
                assert!(known, "a bare & in {text:?}");
            }
            let (tag, behind) = tag.split_once('>').expect("a tag ends");
            rest = behind;
            if let Some(name) = tag.strip_prefix('/') {
                assert_eq!(open.pop().as_deref(), Some(name), "what ends");
                continue;
            }
            let (name, mut attributes) = tag
                .trim_end_matches('/')
                .split_once(' ')
                .unwrap_or((tag, ""));
            let mut found = Vec::new();
            while let Some((key, value)) = attributes.split_once("=\"") {
                let (value, behind) = value.split_once('"').expect("a value ends");
                found.push((key.trim().to_owned(), value.to_owned()));
                attributes = behind;
            }
            assert_eq!(attributes, "", "what is left of {tag:?}");
            if !tag.ends_with('/') {
                open.push(name.to_owned());
            }
            all.push((name.to_owned(), found));
        }
        assert_eq!(open, Vec::<String>::new(), "what does not end");
        assert_eq!(rest, "\n");
        all
    }

    #[test]
    fn a_picture_is_xml() {
        let mut svg = Svg::new(100.0, 50.5);
        svg.rect((1.0, 2.0), (1.0 / 3.0, 4.0), 7, "a < b & c");
        svg.dot((1.0, 2.0), 3.0, 0, "");
        svg.line((0.0, 0.0), (1.0, 1.0), "grid");
        svg.text((0.0, 0.0), "end", "p99 > p50");
        let picture = svg.finish("all & everything");
        let elements = elements(&picture);
        let names: Vec<&str> = elements.iter().map(|(name, _)| name.as_str()).collect();
        assert_eq!(
            names,
            [
                "svg", "title", "style", "rect", "title", "circle", "title", "line", "text"
            ]
        );
        assert!(elements[3].1.contains(&("width".into(), "0.33".into())));
        assert!(elements[3].1.contains(&("class".into(), "c2".into())));
    }
}
