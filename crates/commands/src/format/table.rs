//! Columns of text, aligned the way Go's `tabwriter` does with Docker's settings.

/// How columns are spaced.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Spacing {
    /// The least width of a column, padding included.
    pub(crate) min_width: usize,
    /// Blanks between the longest cell and the next column.
    pub(crate) padding: usize,
}

/// What Docker's lists use.
pub(crate) const LIST: Spacing = Spacing {
    min_width: 10,
    padding: 3,
};

/// Aligns tab separated `text`. A cell is what a tab ends; a column is a run of lines that have
/// that cell, so lines without tabs separate blocks.
pub(crate) fn align(text: &str, spacing: Spacing) -> String {
    let lines: Vec<Vec<&str>> = text
        .split('\n')
        .map(|line| line.split('\t').collect())
        .collect();
    let mut widths: Vec<Vec<usize>> = lines.iter().map(|cells| vec![0; cells.len() - 1]).collect();
    let deepest = widths.iter().map(Vec::len).max().unwrap_or(0);
    for column in 0..deepest {
        let mut start = 0;
        while start < lines.len() {
            if widths[start].len() <= column {
                start += 1;
                continue;
            }
            let end = (start..lines.len())
                .find(|line| widths[*line].len() <= column)
                .unwrap_or(lines.len());
            let longest = lines[start..end]
                .iter()
                .map(|cells| cells[column].chars().count())
                .max()
                .unwrap_or(0);
            let width = spacing.min_width.max(longest + spacing.padding);
            widths[start..end]
                .iter_mut()
                .for_each(|line| line[column] = width);
            start = end;
        }
    }
    let mut out = String::with_capacity(text.len() * 2);
    for (at, cells) in lines.iter().enumerate() {
        if at > 0 {
            out.push('\n');
        }
        for (column, cell) in cells.iter().enumerate() {
            out.push_str(cell);
            if let Some(width) = widths[at].get(column) {
                let blanks = width.saturating_sub(cell.chars().count());
                out.extend(std::iter::repeat_n(' ', blanks));
            }
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_as_wide_as_their_longest_cell() {
        assert_eq!(
            align(
                "CONTAINER ID\tIMAGE\tNAMES\n0123456789ab\tbusybox:latest\tx\n",
                LIST
            ),
            "CONTAINER ID   IMAGE            NAMES\n0123456789ab   busybox:latest   x\n"
        );
        assert_eq!(align("é\tb\n", LIST), "é         b\n");
    }

    #[test]
    fn lines_without_cells_separate_blocks() {
        assert_eq!(
            align("aaaaaaaaaaaa\tb\n\na\tb\n", LIST),
            "aaaaaaaaaaaa   b\n\na         b\n"
        );
    }
}
