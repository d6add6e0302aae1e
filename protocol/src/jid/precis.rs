//! RFC 8264 and RFC 8265: the PRECIS profiles UsernameCaseMapped and OpaqueString, on current Unicode.
//!
//! The registry of PRECIS, and with it the crate whose tables we use, stopped at Unicode 6.3; names and passwords did
//! not. RFC 8264 section 8 derives the properties of a code point from any version of Unicode, so code points that were
//! not assigned in 6.3 are derived here. Which version that is, the lock file pins.
use icu_properties::props::{
    BinaryProperty, DefaultIgnorableCodePoint, EnumeratedProperty, GeneralCategory,
};
use precis_profiles::precis_core::profile::Rules;
use precis_profiles::precis_core::{
    DerivedPropertyValue, FreeformClass, IdentifierClass, StringClass,
};
use precis_profiles::{OpaqueString, UsernameCaseMapped};
use unicode_normalization::UnicodeNormalization;

/// How often a profile is applied before a text that keeps changing is refused (RFC 8264 section 7).
const PASSES_MAX: u32 = 4;

/// How many code points of one text may depend on their context (digits of Arabic scripts, joiners, middle dots). Each
/// takes time in proportion to the text.
const CONTEXT_CODE_POINTS_MAX: usize = 64;

/// Applies UsernameCaseMapped (RFC 8265 section 3.3). `None` if the text is not allowed.
pub(super) fn enforce_username(text: &str) -> Option<String> {
    let profile = UsernameCaseMapped::new();
    until_stable(text, |text| {
        let text = profile.width_mapping_rule(text).ok()?;
        is_allowed(&Current(IdentifierClass::default()), &text).then_some(())?;
        let text = profile.case_mapping_rule(text).ok()?;
        let text = profile.normalization_rule(text).ok()?;
        profile.directionality_rule(text).ok().map(Into::into)
    })
}

/// Applies OpaqueString (RFC 8265 section 4.2). `None` if the text is not allowed.
pub(super) fn enforce_opaque(text: &str) -> Option<String> {
    let profile = OpaqueString::new();
    until_stable(text, |text| {
        is_allowed(&Current(FreeformClass::default()), text).then_some(())?;
        let text = profile.additional_mapping_rule(text).ok()?;
        profile.normalization_rule(text).ok().map(Into::into)
    })
}

/// Applies a profile until it changes nothing, so that preparation is idempotent (RFC 8264 section 7).
fn until_stable(text: &str, enforce: impl Fn(&str) -> Option<String>) -> Option<String> {
    let mut current = text.to_owned();
    for _ in 0..PASSES_MAX {
        let next = enforce(&current)?;
        if next == current {
            return Some(current);
        }
        current = next;
    }
    None
}

fn is_allowed(class: &impl StringClass, text: &str) -> bool {
    let depends_on_context = |character| {
        let value = class.get_value_from_char(character);
        matches!(
            value,
            DerivedPropertyValue::ContextJ | DerivedPropertyValue::ContextO
        )
    };
    text.chars()
        .filter(|character| depends_on_context(*character))
        .nth(CONTEXT_CODE_POINTS_MAX)
        .is_none()
        && class.allows(text).is_ok()
}

/// A string class on current Unicode.
struct Current<C>(C);

impl<C: StringClass + OutsideLetters> StringClass for Current<C> {
    fn get_value_from_char(&self, character: char) -> DerivedPropertyValue {
        match self.0.get_value_from_char(character) {
            DerivedPropertyValue::Unassigned => derive::<C>(character),
            known => known,
        }
    }

    fn get_value_from_codepoint(&self, code_point: u32) -> DerivedPropertyValue {
        match char::from_u32(code_point) {
            Some(character) => self.get_value_from_char(character),
            None => self.0.get_value_from_codepoint(code_point),
        }
    }
}

/// What a class says to anything assigned that is neither letter nor digit nor forbidden: `ID_DIS` or `FREE_PVAL`.
trait OutsideLetters {
    const VALUE: DerivedPropertyValue;
}

impl OutsideLetters for IdentifierClass {
    const VALUE: DerivedPropertyValue = DerivedPropertyValue::SpecClassDis;
}

impl OutsideLetters for FreeformClass {
    const VALUE: DerivedPropertyValue = DerivedPropertyValue::SpecClassPval;
}

/// The algorithm of RFC 8264 section 8 for a code point that is newer than Unicode 6.3: the exceptions, ASCII, controls,
/// joiners and old Hangul are all older.
fn derive<C: OutsideLetters>(character: char) -> DerivedPropertyValue {
    use GeneralCategory as Category;
    if DefaultIgnorableCodePoint::for_char(character) {
        return DerivedPropertyValue::Disallowed;
    }
    let has_compatibility_form = || !character.nfkc().eq([character]);
    match GeneralCategory::for_char(character) {
        Category::Unassigned => DerivedPropertyValue::Unassigned,
        Category::Control | Category::Format | Category::Surrogate | Category::PrivateUse => {
            DerivedPropertyValue::Disallowed
        }
        Category::LineSeparator | Category::ParagraphSeparator => DerivedPropertyValue::Disallowed,
        _ if has_compatibility_form() => C::VALUE,
        Category::LowercaseLetter
        | Category::UppercaseLetter
        | Category::OtherLetter
        | Category::DecimalNumber
        | Category::ModifierLetter
        | Category::NonspacingMark
        | Category::SpacingMark => DerivedPropertyValue::PValid,
        _ => C::VALUE,
    }
}
