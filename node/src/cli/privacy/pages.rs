//! A document of headings, paragraphs, lists and tables, as Markdown and as HTML.

use std::fmt::Write;

use kith_simulations::plot::escape;

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

/// A page that needs no other file.
pub(super) fn html(title: &str, blocks: &[Block]) -> String {
    let mut text = format!(
        "<!doctype html>\n<html lang=\"en\"><head><meta charset=\"utf-8\"><title>{0}</title>\n<style>body{{font-family:sans-serif;\
         max-width:60em;margin:2em auto;line-height:1.4}}table{{border-collapse:collapse}}td,th{{border:1px solid #999;padding:.3em .6em;\
         text-align:left;vertical-align:top}}</style></head><body>\n<h1>{0}</h1>\n",
        escape(title)
    );
    for block in blocks {
        html_block(&mut text, block).expect("writing into a string does not fail");
    }
    text.push_str("</body></html>\n");
    text
}

fn html_block(text: &mut String, block: &Block) -> std::fmt::Result {
    match block {
        Block::Heading(heading) => writeln!(text, "<h2>{}</h2>", escape(heading)),
        Block::Paragraph(paragraph) => writeln!(text, "<p>{}</p>", escape(paragraph)),
        Block::List(items) => {
            writeln!(text, "<ul>")?;
            for (name, what) in items {
                writeln!(text, "<li><b>{}</b>: {}</li>", escape(name), escape(what))?;
            }
            writeln!(text, "</ul>")
        }
        Block::Table { header, rows } => {
            let cells = |tag: &str, cells: &mut dyn Iterator<Item = &str>| -> String {
                cells
                    .map(|cell| format!("<{tag}>{}</{tag}>", escape(cell)))
                    .collect()
            };
            writeln!(
                text,
                "<table>\n<tr>{}</tr>",
                cells("th", &mut header.iter().copied())
            )?;
            for row in rows {
                writeln!(
                    text,
                    "<tr>{}</tr>",
                    cells("td", &mut row.iter().map(String::as_str))
                )?;
            }
            writeln!(text, "</table>")
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
