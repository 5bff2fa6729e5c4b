//! Protected columns are grouped by their tables.

use rekey_store::columns::Protected;

/// The columns of each table, in the order of the first of them.
pub(crate) fn tables(columns: &[Protected]) -> Vec<Vec<&Protected>> {
    let mut tables: Vec<Vec<&Protected>> = Vec::new();
    for column in columns {
        let known = tables
            .iter_mut()
            .find(|table| table[0].table.id == column.table.id);
        match known {
            Some(table) => table.push(column),
            None => tables.push(vec![column]),
        }
    }
    tables
}
