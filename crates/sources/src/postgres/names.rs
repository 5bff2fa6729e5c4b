//! Names of tables as SQL reads them: `patients`, `public.patients`, `"Clinic"."Order By"`.

/// A table's name, with the schema if one was said.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Name {
    pub(super) schema: Option<String>,
    pub(super) table: String,
}

impl Name {
    /// Reads a name; None for what is none. Capitals outside quotes are small letters.
    pub(super) fn parse(text: &str) -> Option<Self> {
        let (first, rest) = identifier(text)?;
        if rest.is_empty() {
            return Some(Self {
                schema: None,
                table: first,
            });
        }
        let (table, rest) = identifier(rest.strip_prefix('.')?)?;
        rest.is_empty().then_some(Self {
            schema: Some(first),
            table,
        })
    }

    /// The name as an identifier.
    pub(super) fn sql(&self) -> String {
        match &self.schema {
            Some(schema) => format!("{}.{}", quote(schema), quote(&self.table)),
            None => quote(&self.table),
        }
    }
}

/// A name as an identifier.
pub(super) fn quote(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

/// A table's name with its schema as a configuration says it: quoted where it has to be.
pub(super) fn said(schema: &str, table: &str) -> String {
    let plain = |name: &str| {
        let mut letters = name.chars();
        let starts = |c: char| c.is_ascii_lowercase() || c == '_';
        letters.next().is_some_and(starts) && letters.all(|c| starts(c) || c.is_ascii_digit())
    };
    let said = |name: &str| {
        if plain(name) {
            name.to_owned()
        } else {
            quote(name)
        }
    };
    format!("{}.{}", said(schema), said(table))
}

fn identifier(text: &str) -> Option<(String, &str)> {
    match text.strip_prefix('"') {
        Some(inner) => quoted(inner),
        None => bare(text),
    }
}

/// Up to the closing quote; a doubled one is part of the name.
fn quoted(inner: &str) -> Option<(String, &str)> {
    let (mut name, mut rest) = (String::new(), inner);
    loop {
        let (before, after) = rest.split_once('"')?;
        name.push_str(before);
        match after.strip_prefix('"') {
            Some(more) => {
                name.push('"');
                rest = more;
            }
            None => return (!name.is_empty()).then_some((name, after)),
        }
    }
}

fn bare(text: &str) -> Option<(String, &str)> {
    let within = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == '$' || !c.is_ascii();
    let end = text.find(|c| !within(c)).unwrap_or(text.len());
    let (name, rest) = text.split_at(end);
    let starts = name.starts_with(|c: char| !c.is_ascii_digit() && c != '$');
    starts.then(|| (name.to_ascii_lowercase(), rest))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Option<(Option<String>, String)> {
        Name::parse(text).map(|name| (name.schema, name.table))
    }

    #[test]
    fn names_are_read_as_sql_reads_them() {
        let named =
            |schema: Option<&str>, table: &str| Some((schema.map(str::to_owned), table.to_owned()));
        assert_eq!(read("patients"), named(None, "patients"));
        assert_eq!(read("Public.Patients"), named(Some("public"), "patients"));
        assert_eq!(read(r#""A.b"."C ""d""""#), named(Some("A.b"), r#"C "d""#));
        assert_eq!(read("größe"), named(None, "größe"));
    }

    #[test]
    fn what_is_no_name_is_refused() {
        for bad in [
            "", ".", "a.", ".a", "a.b.c", "a b", "\"a", "\"\"", "1a", "a;", "a\"b\"", "\"a\"b",
        ] {
            assert_eq!(read(bad), None, "{bad}");
        }
    }

    #[test]
    fn a_name_is_said_so_that_it_is_read_again() {
        let plain = [("public", "patients"), ("a_1", "_b")];
        for (schema, table) in plain {
            assert_eq!(said(schema, table), format!("{schema}.{table}"));
        }
        let others = ["Order", "a b", "1a", "größe", "a$b", r#"a"b"#, "a.b", ""];
        for (schema, table) in plain.into_iter().chain(others.map(|name| ("s", name))) {
            let read = Name::parse(&said(schema, table));
            let again = read.map(|name| (name.schema.unwrap(), name.table));
            let same = (schema.to_owned(), table.to_owned());
            assert_eq!(again, (!table.is_empty()).then_some(same), "{table}");
        }
    }

    #[test]
    fn a_name_cannot_leave_its_quotes() {
        let name = Name {
            schema: Some("s".to_owned()),
            table: r#"a" ; --"#.to_owned(),
        };
        assert_eq!(name.sql(), r#""s"."a"" ; --""#);
        assert_eq!(Name::parse(&name.sql()), Some(name));
    }
}
