//! A document of headings, paragraphs, lists and tables, as Markdown and as HTML.

use maud::{DOCTYPE, Markup, PreEscaped};

/// A part of a document.
pub(super) enum Block {
    Heading(String),
    Paragraph(String),
    /// Each with what it is about first.
    List(Vec<(String, String)>),
    Table {
        header: Vec<&'static str>,
        rows: Vec<Vec<String>>,
    },
}

pub(super) fn markdown(title: &str, blocks: &[Block]) -> String {
    let mut text = format!("# {title}\n");
    for block in blocks {
        text.push('\n');
        match block {
            Block::Heading(heading) => line(&mut text, &format!("## {heading}")),
            Block::Paragraph(paragraph) => line(&mut text, paragraph),
            Block::List(items) => {
                for (name, what) in items {
                    line(&mut text, &format!("- **{name}**: {what}"));
                }
            }
            Block::Table { header, rows } => {
                line(&mut text, &format!("| {} |", header.join(" | ")));
                line(&mut text, &format!("|{}", "---|".repeat(header.len())));
                for row in rows {
                    let cells: Vec<String> =
                        row.iter().map(|cell| cell.replace('|', "\\|")).collect();
                    line(&mut text, &format!("| {} |", cells.join(" | ")));
                }
            }
        }
    }
    text
}

fn line(text: &mut String, line: &str) {
    text.push_str(line);
    text.push('\n');
}

const STYLE: &str = "body{font-family:sans-serif;max-width:60em;margin:2em auto;line-height:1.4}\
table{border-collapse:collapse}td,th{border:1px solid #999;padding:.3em .6em;text-align:left;vertical-align:top}";

/// A page that needs no other file.
pub(super) fn html(title: &str, blocks: &[Block]) -> String {
    let page = maud::html! {
        (DOCTYPE)
        html lang="en" {
            head { meta charset="utf-8"; title { (title) } style { (PreEscaped(STYLE)) } }
            body { h1 { (title) } @for block in blocks { (element(block)) } }
        }
    };
    page.into_string()
}

fn element(block: &Block) -> Markup {
    maud::html! {
        @match block {
            Block::Heading(heading) => h2 { (heading) },
            Block::Paragraph(paragraph) => p { (paragraph) },
            Block::List(items) => ul { @for (name, what) in items { li { b { (name) } ": " (what) } } },
            Block::Table { header, rows } => table {
                tr { @for cell in header { th { (cell) } } }
                @for row in rows { tr { @for cell in row { td { (cell) } } } }
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_from_outside_become_neither_markup_nor_columns() {
        let blocks = [
            Block::Heading("a & b".to_owned()),
            Block::List(vec![("name".to_owned(), "<script>".to_owned())]),
            Block::Table {
                header: vec!["one"],
                rows: vec![vec!["x|y".to_owned()]],
            },
        ];
        let page = html("t", &blocks);
        assert!(
            page.contains("&lt;script&gt;") && page.contains("a &amp; b") && page.contains("x|y")
        );
        assert!(!page.contains("<script>"));
        let text = markdown("t", &blocks);
        assert!(
            text.starts_with("# t\n\n## a & b\n") && text.contains("| x\\|y |"),
            "{text}"
        );
    }
}
