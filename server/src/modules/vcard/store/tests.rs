use super::super::search::ALL;
use super::*;
use crate::storage::Place;
use crate::storage::tests::{check_statements, on_each_place, open, run_raw};

fn account(text: &str) -> BareJid {
    BareJid::parse(text).unwrap()
}

fn fields(given: &[(&str, &str)]) -> Fields {
    let mut fields = Fields::default();
    for (field, text) in ALL.iter().skip(1).zip(&mut fields.0) {
        let value = given.iter().find(|(var, _)| *var == field.var);
        *text = value.map_or_else(String::new, |(_, value)| (*value).to_owned());
    }
    fields
}

fn query(given: &[(&str, &str)]) -> Query {
    let mut query = Query::default();
    for (field, pattern) in ALL.iter().zip(&mut query.0) {
        let value = given.iter().find(|(var, _)| *var == field.var);
        *pattern = match value.map(|(_, value)| (*value, value.strip_suffix('*'))) {
            None => Pattern::Any,
            Some((_, Some(beginning))) => Pattern::Beginning(beginning.to_owned()),
            Some((value, None)) => Pattern::Whole(value.to_owned()),
        };
    }
    query
}

async fn set(store: &VcardStore, name: &str, xml: &str, given: &[(&str, &str)]) {
    let (account, fields) = (account(name), fields(given));
    let set = store.set(&account, xml.to_owned(), &fields);
    set.await.unwrap();
}

async fn names(store: &VcardStore, domain: &str, given: &[(&str, &str)]) -> Vec<String> {
    let found = store.search(domain, &query(given), 100).await.unwrap();
    let mut names: Vec<String> = found.into_iter().map(|found| found.0[0].clone()).collect();
    names.sort_unstable();
    names
}

#[tokio::test]
async fn the_database_takes_every_statement() {
    check_statements(STATEMENTS, &[]).await;
}

#[tokio::test]
async fn each_account_has_one_vcard() {
    on_each_place(|db| async move {
        let store = VcardStore::new(db);
        let juliet = account("juliet@localhost");
        let xml = "<vCard xmlns='vcard-temp'><FN>Juliet \u{1f9a1} &amp;</FN></vCard>";
        let other = "<vCard xmlns='vcard-temp'/>";
        for xml in [other, xml] {
            set(&store, "juliet@localhost", xml, &[]).await;
        }
        let kept = store.load(&juliet).await.unwrap().unwrap();
        assert_eq!(kept.to_xml(), xml);
        for stranger in ["nurse@localhost", "juliet@example.org"] {
            assert_eq!(store.load(&account(stranger)).await.unwrap(), None);
        }
    })
    .await;
}

#[tokio::test]
async fn people_are_found_by_whole_texts_and_by_beginnings() {
    on_each_place(|db| async move {
        let store = VcardStore::new(db);
        for (name, given) in [
            (
                "juliet@localhost",
                [("fn", "Juliet Capulet"), ("ctry", "Italia")],
            ),
            ("julia@localhost", [("fn", "Julia_x"), ("ctry", "Italia")]),
            (
                "romeo@localhost",
                [("fn", "Romeo 100%"), ("ctry", "ITALIA")],
            ),
            (
                "etienne@localhost",
                [("fn", "\u{c9}tienne!"), ("ctry", "France")],
            ),
            (
                "juliet@example.org",
                [("fn", "Juliet Capulet"), ("ctry", "Italia")],
            ),
        ] {
            set(&store, name, "", &given).await;
        }
        let check = async |given: &[(&str, &str)], expected: &[&str]| {
            assert_eq!(
                names(&store, "localhost", given).await,
                expected,
                "{given:?}"
            );
        };
        check(&[], &[]).await;
        check(&[("fn", "juliet capulet")], &["juliet"]).await;
        check(&[("fn", "juliet")], &[]).await;
        check(&[("fn", "jul*")], &["julia", "juliet"]).await;
        check(&[("fn", "capulet*")], &[]).await;
        check(&[("ctry", "italia")], &["julia", "juliet", "romeo"]).await;
        check(&[("ctry", "italia"), ("fn", "romeo*")], &["romeo"]).await;
        check(&[("ctry", "france"), ("fn", "romeo*")], &[]).await;
        check(&[("user", "jul*"), ("ctry", "i*")], &["julia", "juliet"]).await;
        check(&[("fn", "\u{e9}*")], &["etienne"]).await;
        // What LIKE means otherwise is only itself.
        for (text, expected) in [
            ("julia_x", &["julia"][..]),
            ("juli__x", &[]),
            ("romeo 100%", &["romeo"]),
            ("romeo%", &[]),
            ("\u{e9}tienne!", &["etienne"]),
            ("'; DROP TABLE vcard_search; --", &[]),
        ] {
            check(&[("ctry", "*"), ("fn", text)], expected).await;
        }
        // What is not in the vCard any more is not found any more.
        set(&store, "romeo@localhost", "", &[]).await;
        check(&[("ctry", "italia")], &["julia", "juliet"]).await;
        let query = query(&[("ctry", "i*")]);
        let found = store.search("localhost", &query, 1).await;
        assert_eq!(found.unwrap().len(), 1);
    })
    .await;
}

#[tokio::test]
async fn vcards_of_mongooseim_are_read_and_rows_without_meaning_are_errors() {
    let db = open(Place::Memory).await;
    run_raw(
        &db,
        "INSERT INTO vcard (server, username, vcard, created_at) VALUES
         ('localhost', 'juliet', '<vCard xmlns=\"vcard-temp\"><FN>Juliet</FN></vCard>', '2022-01-01 00:00:00'),
         ('localhost', 'nurse', '<vCard', '2022-01-01 00:00:00')",
    )
    .await;
    let store = VcardStore::new(db);
    let juliet = store.load(&account("juliet@localhost")).await.unwrap();
    let fields = Fields::of(&juliet.unwrap());
    assert_eq!(fields.0[0], "Juliet");
    let nurse = store.load(&account("nurse@localhost")).await;
    assert!(matches!(nurse, Err(Error::Corrupt { .. })), "{nurse:?}");
}
