//! The conformance suite: what every kind of source promises, run for each of them.
//!
//! A case is a function over [`Fixture`]; a new kind of source brings a fixture and one more line
//! `conformance!` below. What only one kind of database can do is tested in a file of its own.

#![expect(
    clippy::shadow_unrelated,
    reason = "a test looks at one thing again and again"
)]
#![expect(clippy::unwrap_used, reason = "a test that cannot go on ends there")]

mod suite {
    pub mod aftermath;
    pub mod application;
    pub mod census;
    pub mod deadlines;
    pub mod errors;
    pub mod fixture;
    pub mod inspect;
    pub mod names;
    pub mod pages;
    pub mod passes;
    pub mod postgres;
    pub mod postgres_binds;
    mod postgres_census;
    pub mod postgres_crash;
    mod postgres_damage;
    pub mod postgres_errors;
    pub mod postgres_fixture;
    pub mod postgres_inspect;
    pub mod postgres_locks;
    mod postgres_own_code;
    pub mod postgres_parts;
    mod postgres_poolers;
    pub mod postgres_rights;
    pub mod postgres_sessions;
    pub mod postgres_speed;
    pub mod postgres_tls;
    pub mod races;
    pub mod ranges;
    pub mod reads;
    pub mod sqlite;
    pub mod sqlite_errors;
    pub mod sqlite_fixture;
    pub mod sqlite_inspect;
    mod sqlite_names;
    mod sqlite_schema;
    mod sqlite_shadows;
    pub mod sqlite_values;
    pub mod writes;
}

use suite::{fixture::runtime, postgres_fixture::PostgresFixture, sqlite_fixture::SqliteFixture};

/// One test a case: `cases` get a fixture, `properties` make one for each input.
macro_rules! conformance {
    ($kind:ident, $new:expr) => {
        conformance!(@ $kind, $new,
            cases: [
                ranges::an_empty_table_has_no_range,
                ranges::a_range_has_about_as_many_rows_as_asked_for,
                ranges::ranges_end_where_the_part_ended_when_it_was_looked_at,
                reads::only_rows_with_an_unsettled_value_are_read,
                reads::all_is_settled_where_nothing_is_left,
                reads::base64_is_settled_by_its_prefix,
                reads::binds_come_in_the_order_of_the_query,
                pages::a_page_ends_at_its_bytes,
                pages::a_page_holds_at_least_one_row,
                census::what_only_begins_as_ciphertext_is_none,
                census::empty_values_are_counted_apart_and_left_alone,
                passes::what_a_pass_left_is_known_by_place_and_nonce,
                passes::more_than_a_pass_left_is_not_looked_at,
                passes::a_mark_lets_a_census_count_once_nothing_is_open,
                passes::a_value_is_found_wherever_it_stands_now,
                passes::a_value_that_the_pass_opened_where_it_stands_is_not_looked_for,
                passes::a_census_is_of_just_the_parts_that_the_pass_read,
                passes::a_census_is_of_the_column_that_was_meant,
                writes::nothing_but_the_columns_is_written,
                writes::two_columns_are_written_together,
                writes::more_rows_than_a_transaction_takes,
                writes::no_updates_are_no_work,
                races::a_changed_value_is_not_overwritten,
                races::an_iv_is_compared_to_its_end,
                races::a_deleted_row_stays_deleted,
                races::a_row_inserted_anew_is_not_overwritten,
                races::one_changed_column_keeps_the_other,
                races::text_is_compared_as_a_whole,
                races::plaintext_is_compared_as_a_whole,
                races::a_value_that_became_null_stays_null,
                deadlines::nothing_is_written_after_the_deadline,
                deadlines::a_deadline_is_in_the_sources_time,
                names::hostile_names_are_only_names,
                names::names_are_found_in_either_case,
                errors::a_missing_table_is_named,
                errors::a_missing_column_is_named_with_those_there_are,
                errors::a_view_is_refused,
                errors::a_value_of_the_wrong_type_is_refused,
                errors::a_constraint_names_its_row,
                errors::what_refused_an_update_is_named,
                errors::a_part_that_is_not_the_tables_is_not_read,
                application::no_update_of_the_application_is_lost,
                inspect::an_empty_table_is_measured_as_empty,
                inspect::a_table_that_was_never_analysed_is_measured_by_some_rows,
                inspect::an_analysed_table_is_measured_by_the_catalogue,
                inspect::counting_counts_every_row,
                inspect::indexes_on_the_columns_are_named,
                inspect::what_is_not_there_cannot_be_looked_at,
                inspect::a_sample_is_bounded_and_reaches_the_latest_rows,
                inspect::ciphertext_is_found_in_any_column,
                inspect::ciphertext_is_found_within_text,
                inspect::ciphertext_that_is_written_in_another_way_is_counted_too,
                inspect::hostile_names_are_candidates,
                inspect::a_view_is_no_candidate,
                inspect::looking_changes_nothing,
            ],
            properties: [
                ranges::every_row_is_in_exactly_one_range,
                census::a_census_equals_a_naive_count,
            ]
        );
    };
    (@ $kind:ident, $new:expr,
     cases: [$($module:ident::$case:ident,)*], properties: [$($home:ident::$property:ident,)*]) => {
        mod $kind {
            use super::*;
            $(#[test] fn $case() {
                runtime().block_on(async { suite::$module::$case(&$new.await).await });
            })*
            $(#[test] fn $property() {
                suite::$home::$property(&runtime(), async || $new.await);
            })*
        }
    };
}

conformance!(postgres, PostgresFixture::new());
conformance!(sqlite_delete, SqliteFixture::new("delete"));
conformance!(sqlite_wal, SqliteFixture::new("wal"));
