//! Text in HTML: everything that is not markup goes through here.

use std::fmt;

/// Text that is safe between tags and in quoted attributes.
#[derive(Debug, Clone, Copy)]
pub(super) struct Text<T>(pub(super) T);

impl<T: fmt::Display> fmt::Display for Text<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for c in self.0.to_string().chars() {
            match c {
                '&' => f.write_str("&amp;")?,
                '<' => f.write_str("&lt;")?,
                '>' => f.write_str("&gt;")?,
                '"' => f.write_str("&quot;")?,
                '\'' => f.write_str("&#39;")?,
                _ => fmt::Write::write_char(f, c)?,
            }
        }
        Ok(())
    }
}

/// A table: header cells, then rows of a header and markup cells.
pub(super) fn table(columns: &[&str], rows: &[(String, Vec<String>)]) -> String {
    let head: String =
        columns.iter().map(|column| format!("<th scope=\"col\">{}</th>", Text(column))).collect();
    let row = |(name, cells): &(String, Vec<String>)| {
        let cells: String = cells.iter().map(|cell| format!("<td>{cell}</td>")).collect();
        format!("<tr><th scope=\"row\">{}</th>{cells}</tr>\n", Text(name))
    };
    let body: String = rows.iter().map(row).collect();
    format!(
        "<div class=\"scroll\"><table><thead><tr>{head}</tr></thead>\n<tbody>{body}</tbody></table></div>"
    )
}

/// A chart with its caption.
pub(super) fn figure(caption: &str, svg: &str) -> String {
    format!("<figure><figcaption>{}</figcaption>{svg}</figure>", Text(caption))
}

/// Figures beside each other where there is room.
pub(super) fn figures(figures: &[String]) -> String {
    format!("<div class=\"figures\">{}</div>", figures.concat())
}
