//! The XML declaration (XML 1.0 section 2.8, RFC 6120 section 11.4 to 11.6).
use quick_xml::events::attributes::Attributes;

use super::Fault;
use super::characters::is_space;
use crate::StreamCondition;

/// Checks a whole `<?xml …?>`: version 1.0, and UTF-8 if it names an encoding.
pub(crate) fn check(declaration: &str) -> Result<(), Fault> {
    let content = declaration
        .strip_prefix("<?")
        .and_then(|rest| rest.strip_suffix("?>"))
        .ok_or(Fault::MALFORMED)?;
    // In the order in which they may stand.
    let mut expected = ["version", "encoding", "standalone"].iter();
    let mut has_version = false;
    let mut previous_end = "xml".len();
    for attribute in Attributes::new(content, "xml".len()).with_checks(false) {
        let attribute = attribute.map_err(|_| Fault::MALFORMED)?;
        let (key, value): (&str, &str) = (attribute.key.as_ref(), &attribute.value);
        let is_separated = content
            .as_bytes()
            .get(previous_end)
            .is_some_and(|&byte| is_space(byte));
        if !is_separated || !expected.any(|&name| name == key) {
            return Err(Fault::MALFORMED);
        }
        previous_end = value
            .as_ptr()
            .addr()
            .wrapping_sub(content.as_ptr().addr())
            .saturating_add(value.len())
            .saturating_add(1);
        match key {
            "version" if value == "1.0" => has_version = true,
            "encoding" if value.eq_ignore_ascii_case("utf-8") => {}
            "encoding" => return Err(Fault::Condition(StreamCondition::UnsupportedEncoding)),
            "standalone" if matches!(value, "yes" | "no") => {}
            _ => return Err(Fault::MALFORMED),
        }
    }
    if has_version {
        Ok(())
    } else {
        Err(Fault::MALFORMED)
    }
}

#[cfg(test)]
mod tests {
    use super::check as check_declaration;
    use crate::StreamCondition::{self, NotWellFormed, UnsupportedEncoding};
    use crate::xml::Fault;

    #[track_caller]
    fn check(declaration: &str, expected: Result<(), StreamCondition>) {
        assert_eq!(
            check_declaration(declaration),
            expected.map_err(Fault::Condition),
            "{declaration}"
        );
    }

    #[test]
    fn version_comes_first_and_is_1_0() {
        check("<?xml version='1.0'?>", Ok(()));
        check("<?xml version=\"1.0\" standalone='yes' ?>", Ok(()));
        check(
            "<?xml\tversion = '1.0'\nencoding='utf-8' standalone='no'?>",
            Ok(()),
        );
        check("<?xml?>", Err(NotWellFormed));
        check("<?xml ?>", Err(NotWellFormed));
        check("<?xml encoding='UTF-8'?>", Err(NotWellFormed));
        check("<?xml version='1.1'?>", Err(NotWellFormed));
        check("<?xml version='1.0' version='1.0'?>", Err(NotWellFormed));
        check(
            "<?xml version='1.0' standalone='maybe'?>",
            Err(NotWellFormed),
        );
        check(
            "<?xml version='1.0' standalone='no' encoding='UTF-8'?>",
            Err(NotWellFormed),
        );
        check("<?xml version='1.0'encoding='UTF-8'?>", Err(NotWellFormed));
        check("<?xml version='1.0' encoding?>", Err(NotWellFormed));
    }

    #[test]
    fn the_only_encoding_is_utf_8() {
        check("<?xml version='1.0' encoding='UTF-8'?>", Ok(()));
        check(
            "<?xml version='1.0' encoding='ISO-8859-1'?>",
            Err(UnsupportedEncoding),
        );
        check(
            "<?xml version='1.0' encoding='UTF-16'?>",
            Err(UnsupportedEncoding),
        );
    }
}
