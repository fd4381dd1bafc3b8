//! Sites: rows that belong together by nature.

/// Rows that belong together by nature, such as one hospital's.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Site {
    /// Name of the site.
    pub name: String,
    /// Positions of its rows, ascending.
    pub rows: Vec<usize>,
}
