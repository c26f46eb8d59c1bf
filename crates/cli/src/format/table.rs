//! Columns: cells separated by tabs, aligned as Go's tabwriter does it for Docker.

/// How columns are laid out.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Layout {
    min_width: usize,
    padding: usize,
}

impl Layout {
    /// Lists of objects.
    pub(crate) const LIST: Self = Self {
        min_width: 10,
        padding: 3,
    };
    /// The table of processes.
    pub(crate) const PROCESSES: Self = Self {
        min_width: 20,
        padding: 3,
    };
}

/// Aligns lines of cells. A column reaches over consecutive lines that have it; the last cell of
/// a line belongs to no column.
pub(crate) fn align(lines: &[String], layout: Layout) -> String {
    let rows: Vec<Vec<&str>> = lines
        .iter()
        .flat_map(|line| line.split('\n'))
        .map(|line| line.split('\t').collect())
        .collect();
    let columns = rows.iter().map(Vec::len).max().unwrap_or(0);
    let mut widths = vec![vec![0usize; columns]; rows.len()];
    for column in 0..columns {
        let mut start = 0;
        while start < rows.len() {
            if rows[start].len() <= column + 1 {
                start += 1;
                continue;
            }
            let end = (start..rows.len())
                .find(|row| rows[*row].len() <= column + 1)
                .unwrap_or(rows.len());
            let widest = (start..end)
                .map(|row| rows[row][column].chars().count())
                .max()
                .unwrap_or(0);
            let width = (widest + layout.padding).max(layout.min_width);
            for widths in &mut widths[start..end] {
                widths[column] = width;
            }
            start = end;
        }
    }
    let mut text = String::new();
    for (row, widths) in rows.iter().zip(&widths) {
        for (column, cell) in row.iter().enumerate() {
            text.push_str(cell);
            if column + 1 < row.len() {
                let blanks = widths[column].saturating_sub(cell.chars().count());
                text.extend(std::iter::repeat_n(' ', blanks));
            }
        }
        text.push('\n');
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_as_wide_as_their_widest_cell() {
        let lines = [
            "A\tB\tC".to_owned(),
            "a long cell\tb\tc".to_owned(),
            "ä\t\tc".to_owned(),
        ];
        let expected = "A             B         C\na long cell   b         c\nä                       c\n";
        assert_eq!(align(&lines, Layout::LIST), expected);
    }
}
