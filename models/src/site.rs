//! Sites: rows that belong together by nature.

/// Rows that belong together by nature, such as one hospital's.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Site {
    /// Its name.
    pub name: String,
    /// Its rows, ascending.
    pub rows: Vec<usize>,
}
