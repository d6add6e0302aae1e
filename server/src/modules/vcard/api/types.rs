//! What a vCard is made of (XEP-0054), as MongooseIM's schema has it, and how that stands in the element.
//!
//! Texts that are empty, and what the schema has no name for, are left out when a vCard is read.
use async_graphql::{InputObject, SimpleObject, Union};
use protocol::xml::is_writable;
use protocol::{Element, ns};

use self::nested::AgentVcardInput;
use self::tags::{AddressTags, EmailTags, PrivacyClassificationTags, Tag, TelephoneTags};
use crate::api::terms::check_list;
use crate::api::terms::errors::Problem;

mod nested;
mod tags;

/// A list as the schema has it: it may be missing, and so may what is in it.
type List<T> = Option<Vec<Option<T>>>;

// ---- what is read

/// What an account says of itself.
#[derive(SimpleObject, Debug, PartialEq)]
pub(super) struct Vcard {
    /// The name as it is shown.
    formatted_name: Option<String>,
    /// The parts of the name.
    name_components: Option<NameComponents>,
    /// Names that friends use.
    nickname: List<String>,
    /// Pictures.
    photo: List<Image>,
    /// Days of birth.
    birthday: List<String>,
    /// Addresses of houses.
    address: List<Address>,
    /// Addresses as they stand on a letter.
    label: List<Label>,
    /// Telephone numbers.
    telephone: List<Telephone>,
    /// Addresses for mail.
    email: List<Email>,
    /// XMPP addresses.
    jabber_id: List<String>,
    /// Programs for mail.
    mailer: List<String>,
    /// Offsets from UTC.
    time_zone: List<String>,
    /// Places on Earth.
    geo: List<GeographicalPosition>,
    /// Titles of jobs.
    title: List<String>,
    /// What is done in jobs.
    role: List<String>,
    /// Pictures of organizations.
    logo: List<Image>,
    /// Who acts for the account.
    agent: List<Agent>,
    /// Organizations.
    org: List<Organization>,
    /// Categories of programs.
    categories: List<Keyword>,
    /// Notes.
    note: List<String>,
    /// Programs that made the vCard.
    prod_id: List<String>,
    /// When it was changed.
    rev: List<String>,
    /// What the name is sorted by.
    sort_string: List<String>,
    /// How the name is spoken.
    sound: List<Sound>,
    /// Identifiers that nobody else has.
    uid: List<String>,
    /// Pages in the web.
    url: List<String>,
    /// Texts about the account.
    desc: List<String>,
    /// Who may see the vCard.
    class: List<Privacy>,
    /// Keys and credentials.
    key: List<Key>,
}

/// Words that describe something.
#[derive(SimpleObject, Debug, PartialEq)]
struct Keyword {
    /// The words.
    keyword: List<String>,
}

/// The parts of a name.
#[derive(SimpleObject, Debug, PartialEq)]
struct NameComponents {
    /// The name of the family.
    family: Option<String>,
    /// The given name.
    given_name: Option<String>,
    /// Names between the two.
    middle_name: Option<String>,
    /// What stands before the name.
    prefix: Option<String>,
    /// What stands behind the name.
    suffix: Option<String>,
}

/// The address of a house.
#[derive(SimpleObject, Debug, PartialEq)]
struct Address {
    /// What it is for.
    tags: List<AddressTags>,
    /// The box at the post office.
    pobox: Option<String>,
    /// More of the address.
    extadd: Option<String>,
    /// The street, with the number.
    street: Option<String>,
    /// The city.
    locality: Option<String>,
    /// The region.
    region: Option<String>,
    /// The code of the post.
    pcode: Option<String>,
    /// The country.
    country: Option<String>,
}

/// An address as it stands on a letter.
#[derive(SimpleObject, Debug, PartialEq)]
struct Label {
    /// What it is for.
    tags: List<AddressTags>,
    /// Its lines.
    line: List<String>,
}

/// A telephone.
#[derive(SimpleObject, Debug, PartialEq)]
struct Telephone {
    /// What it is for.
    tags: List<TelephoneTags>,
    /// Its number.
    number: Option<String>,
}

/// An address for mail.
#[derive(SimpleObject, Debug, PartialEq)]
struct Email {
    /// What it is for.
    tags: List<EmailTags>,
    /// The address.
    user_id: Option<String>,
}

/// A picture that stands in the vCard.
#[derive(SimpleObject, Debug, PartialEq)]
struct ImageData {
    /// Its media type.
    #[graphql(name = "type")]
    media_type: Option<String>,
    /// The picture in Base64.
    bin_value: Option<String>,
}

/// Something that stands elsewhere.
#[derive(SimpleObject, Debug, PartialEq)]
struct External {
    /// Its URI.
    ext_value: Option<String>,
}

/// A sound in letters.
#[derive(SimpleObject, Debug, PartialEq)]
struct Phonetic {
    /// The letters.
    phonetic: Option<String>,
}

/// A sound that stands in the vCard.
#[derive(SimpleObject, Debug, PartialEq)]
struct BinValue {
    /// The sound in Base64.
    bin_value: Option<String>,
}

/// Somebody whose vCard stands in this one.
#[derive(SimpleObject, Debug, PartialEq)]
struct AgentVcard {
    /// The vCard.
    vcard: Option<Box<Vcard>>,
}

/// A picture.
#[derive(Union, Debug, PartialEq)]
enum Image {
    /// One that stands in the vCard.
    ImageData(ImageData),
    /// One that stands elsewhere.
    External(External),
}

/// A sound.
#[derive(Union, Debug, PartialEq)]
enum Sound {
    /// One in letters.
    Phonetic(Phonetic),
    /// One that stands in the vCard.
    BinValue(BinValue),
    /// One that stands elsewhere.
    External(External),
}

/// Who acts for an account.
#[derive(Union, Debug, PartialEq)]
enum Agent {
    /// Somebody whose vCard stands in this one.
    AgentVcard(AgentVcard),
    /// Somebody whose vCard stands elsewhere.
    External(External),
}

/// A place on Earth.
#[derive(SimpleObject, Debug, PartialEq)]
struct GeographicalPosition {
    /// The latitude.
    lat: Option<String>,
    /// The longitude.
    lon: Option<String>,
}

/// An organization.
#[derive(SimpleObject, Debug, PartialEq)]
struct Organization {
    /// Its name.
    orgname: Option<String>,
    /// Its units, from the largest.
    orgunit: List<String>,
}

/// Who may see a vCard.
#[derive(SimpleObject, Debug, PartialEq)]
struct Privacy {
    /// The words for it.
    tags: List<PrivacyClassificationTags>,
}

/// A key or a credential.
#[derive(SimpleObject, Debug, PartialEq)]
struct Key {
    /// Of what sort it is.
    #[graphql(name = "type")]
    sort: Option<String>,
    /// The key.
    credential: Option<String>,
}

/// What is read from an element; `None` if there is nothing in it.
trait Read: Sized {
    fn read(of: &Element) -> Option<Self>;
}

/// The text of the first child of that name.
fn text(of: &Element, name: &str) -> Option<String> {
    String::read(of.child(name, ns::VCARD)?)
}

/// All children of that name.
fn list<T: Read>(of: &Element, name: &str) -> List<T> {
    let named = of.elements().filter(|child| child.is(name, ns::VCARD));
    let all: Vec<_> = named.filter_map(T::read).map(Some).collect();
    (!all.is_empty()).then_some(all)
}

/// All children that are tags of that sort.
fn tags<T: Tag>(of: &Element) -> List<T> {
    let ours = of.elements().filter(|child| child.ns() == ns::VCARD);
    let all: Vec<_> = ours
        .filter_map(|tag| T::named(tag.name()))
        .map(Some)
        .collect();
    (!all.is_empty()).then_some(all)
}

impl Vcard {
    /// What an element says.
    pub(super) fn of(vcard: &Element) -> Self {
        let name = vcard.child("N", ns::VCARD);
        Self {
            formatted_name: text(vcard, "FN"),
            name_components: name.and_then(NameComponents::read),
            nickname: list(vcard, "NICKNAME"),
            photo: list(vcard, "PHOTO"),
            birthday: list(vcard, "BDAY"),
            address: list(vcard, "ADR"),
            label: list(vcard, "LABEL"),
            telephone: list(vcard, "TEL"),
            email: list(vcard, "EMAIL"),
            jabber_id: list(vcard, "JABBERID"),
            mailer: list(vcard, "MAILER"),
            time_zone: list(vcard, "TZ"),
            geo: list(vcard, "GEO"),
            title: list(vcard, "TITLE"),
            role: list(vcard, "ROLE"),
            logo: list(vcard, "LOGO"),
            agent: list(vcard, "AGENT"),
            org: list(vcard, "ORG"),
            categories: list(vcard, "CATEGORIES"),
            note: list(vcard, "NOTE"),
            prod_id: list(vcard, "PRODID"),
            rev: list(vcard, "REV"),
            sort_string: list(vcard, "SORT-STRING"),
            sound: list(vcard, "SOUND"),
            uid: list(vcard, "UID"),
            url: list(vcard, "URL"),
            desc: list(vcard, "DESC"),
            class: list(vcard, "CLASS"),
            key: list(vcard, "KEY"),
        }
    }
}

impl Read for String {
    fn read(of: &Element) -> Option<Self> {
        Some(of.text().into_owned()).filter(|text| !text.is_empty())
    }
}

impl Read for NameComponents {
    fn read(of: &Element) -> Option<Self> {
        Some(Self {
            family: text(of, "FAMILY"),
            given_name: text(of, "GIVEN"),
            middle_name: text(of, "MIDDLE"),
            prefix: text(of, "PREFIX"),
            suffix: text(of, "SUFFIX"),
        })
    }
}

impl Read for Image {
    fn read(of: &Element) -> Option<Self> {
        let (media_type, bin_value) = (text(of, "TYPE"), text(of, "BINVAL"));
        match text(of, "EXTVAL") {
            Some(uri) if bin_value.is_none() => Some(Self::External(External {
                ext_value: Some(uri),
            })),
            _ if bin_value.is_none() && media_type.is_none() => None,
            _ => Some(Self::ImageData(ImageData {
                media_type,
                bin_value,
            })),
        }
    }
}

impl Read for Address {
    fn read(of: &Element) -> Option<Self> {
        Some(Self {
            tags: tags(of),
            pobox: text(of, "POBOX"),
            extadd: text(of, "EXTADD"),
            street: text(of, "STREET"),
            locality: text(of, "LOCALITY"),
            region: text(of, "REGION"),
            pcode: text(of, "PCODE"),
            country: text(of, "CTRY"),
        })
    }
}

impl Read for Label {
    fn read(of: &Element) -> Option<Self> {
        Some(Self {
            tags: tags(of),
            line: list(of, "LINE"),
        })
    }
}

impl Read for Telephone {
    fn read(of: &Element) -> Option<Self> {
        Some(Self {
            tags: tags(of),
            number: text(of, "NUMBER"),
        })
    }
}

impl Read for Email {
    fn read(of: &Element) -> Option<Self> {
        Some(Self {
            tags: tags(of),
            user_id: text(of, "USERID"),
        })
    }
}

impl Read for GeographicalPosition {
    fn read(of: &Element) -> Option<Self> {
        Some(Self {
            lat: text(of, "LAT"),
            lon: text(of, "LON"),
        })
    }
}

impl Read for Agent {
    fn read(of: &Element) -> Option<Self> {
        if let Some(vcard) = of.child("vCard", ns::VCARD) {
            let vcard = Some(Box::new(Vcard::of(vcard)));
            return Some(Self::AgentVcard(AgentVcard { vcard }));
        }
        let ext_value = Some(text(of, "EXTVAL")?);
        Some(Self::External(External { ext_value }))
    }
}

impl Read for Organization {
    fn read(of: &Element) -> Option<Self> {
        Some(Self {
            orgname: text(of, "ORGNAME"),
            orgunit: list(of, "ORGUNIT"),
        })
    }
}

impl Read for Keyword {
    fn read(of: &Element) -> Option<Self> {
        let keyword = list(of, "KEYWORD");
        Some(Self { keyword })
    }
}

impl Read for Sound {
    fn read(of: &Element) -> Option<Self> {
        let (phonetic, bin_value) = (text(of, "PHONETIC"), text(of, "BINVAL"));
        if phonetic.is_some() {
            return Some(Self::Phonetic(Phonetic { phonetic }));
        }
        if bin_value.is_some() {
            return Some(Self::BinValue(BinValue { bin_value }));
        }
        let ext_value = Some(text(of, "EXTVAL")?);
        Some(Self::External(External { ext_value }))
    }
}

impl Read for Privacy {
    fn read(of: &Element) -> Option<Self> {
        Some(Self { tags: tags(of) })
    }
}

impl Read for Key {
    fn read(of: &Element) -> Option<Self> {
        Some(Self {
            sort: text(of, "TYPE"),
            credential: text(of, "CRED"),
        })
    }
}

// ---- what is written

/// What an account is to say of itself.
#[derive(InputObject)]
pub(super) struct VcardInput {
    /// The name as it is shown.
    formatted_name: String,
    /// The parts of the name.
    name_components: NameComponentsInput,
    /// Names that friends use.
    nickname: List<String>,
    /// Pictures.
    photo: Option<Vec<ImageInput>>,
    /// Days of birth.
    birthday: Option<Vec<String>>,
    /// Addresses of houses.
    address: Option<Vec<AddressInput>>,
    /// Addresses as they stand on a letter.
    label: Option<Vec<LabelInput>>,
    /// Telephone numbers.
    telephone: Option<Vec<TelephoneInput>>,
    /// Addresses for mail.
    email: Option<Vec<EmailInput>>,
    /// XMPP addresses.
    jabber_id: Option<Vec<String>>,
    /// Programs for mail.
    mailer: Option<Vec<String>>,
    /// Offsets from UTC.
    time_zone: Option<Vec<String>>,
    /// Places on Earth.
    geo: Option<Vec<GeographicalPositionInput>>,
    /// Titles of jobs.
    title: Option<Vec<String>>,
    /// What is done in jobs.
    role: Option<Vec<String>>,
    /// Pictures of organizations.
    logo: Option<Vec<ImageInput>>,
    /// Who acts for the account.
    agent: Option<Vec<AgentInput>>,
    /// Organizations.
    org: Option<Vec<OrganizationInput>>,
    /// Categories of programs.
    categories: Option<Vec<KeywordInput>>,
    /// Notes.
    note: Option<Vec<String>>,
    /// Programs that made the vCard.
    prod_id: Option<Vec<String>>,
    /// When it was changed.
    rev: Option<Vec<String>>,
    /// What the name is sorted by.
    sort_string: Option<Vec<String>>,
    /// How the name is spoken.
    sound: Option<Vec<SoundInput>>,
    /// Identifiers that nobody else has.
    uid: Option<Vec<String>>,
    /// Pages in the web.
    url: Option<Vec<String>>,
    /// Texts about the account.
    desc: Option<Vec<String>>,
    /// Who may see the vCard.
    class: Option<Vec<PrivacyInput>>,
    /// Keys and credentials.
    key: Option<Vec<KeyInput>>,
}

/// Words that describe something.
#[derive(InputObject)]
struct KeywordInput {
    /// The words.
    keyword: Option<Vec<String>>,
}

/// The parts of a name.
#[derive(InputObject)]
struct NameComponentsInput {
    /// The name of the family.
    family: Option<String>,
    /// The given name.
    given_name: Option<String>,
    /// Names between the two.
    middle_name: Option<String>,
    /// What stands before the name.
    prefix: Option<String>,
    /// What stands behind the name.
    suffix: Option<String>,
}

/// The address of a house.
#[derive(InputObject)]
struct AddressInput {
    /// What it is for.
    tags: Option<Vec<AddressTags>>,
    /// The box at the post office.
    pobox: Option<String>,
    /// More of the address.
    extadd: Option<String>,
    /// The street, with the number.
    street: Option<String>,
    /// The city.
    locality: Option<String>,
    /// The region.
    region: Option<String>,
    /// The code of the post.
    pcode: Option<String>,
    /// The country.
    country: Option<String>,
}

/// An address as it stands on a letter.
#[derive(InputObject)]
struct LabelInput {
    /// What it is for.
    tags: Option<Vec<AddressTags>>,
    /// Its lines.
    line: Vec<String>,
}

/// A telephone.
#[derive(InputObject)]
struct TelephoneInput {
    /// What it is for.
    tags: Option<Vec<TelephoneTags>>,
    /// Its number.
    number: String,
}

/// An address for mail.
#[derive(InputObject)]
struct EmailInput {
    /// What it is for.
    tags: Option<Vec<EmailTags>>,
    /// The address.
    user_id: String,
}

/// A place on Earth.
#[derive(InputObject)]
struct GeographicalPositionInput {
    /// The latitude.
    lat: String,
    /// The longitude.
    lon: String,
}

/// An organization.
#[derive(InputObject)]
struct OrganizationInput {
    /// Its name.
    orgname: String,
    /// Its units, from the largest.
    orgunit: Option<Vec<String>>,
}

/// Who may see a vCard.
#[derive(InputObject)]
struct PrivacyInput {
    /// The words for it.
    tags: Option<Vec<PrivacyClassificationTags>>,
}

/// A picture: either here or elsewhere.
#[derive(InputObject)]
struct ImageInput {
    /// Its media type.
    #[graphql(name = "type")]
    media_type: Option<String>,
    /// The picture in Base64.
    bin_value: Option<String>,
    /// The URI of one that stands elsewhere.
    ext_value: Option<String>,
}

/// A sound: in letters, here or elsewhere.
#[derive(InputObject)]
struct SoundInput {
    /// The letters.
    phonetic: Option<String>,
    /// The sound in Base64.
    bin_value: Option<String>,
    /// The URI of one that stands elsewhere.
    ext_value: Option<String>,
}

/// Who acts for an account: a vCard either here or elsewhere.
#[derive(InputObject)]
struct AgentInput {
    /// The URI of one that stands elsewhere.
    ext_value: Option<String>,
    /// The vCard.
    vcard: Option<AgentVcardInput>,
}

/// A key or a credential.
#[derive(InputObject)]
struct KeyInput {
    /// Of what sort it is.
    #[graphql(name = "type")]
    sort: Option<String>,
    /// The key.
    credential: String,
}

/// What is written into an element.
trait Write {
    /// Fails if it is too much, or contradicts itself.
    fn write(self, into: &mut Element) -> Result<(), Problem>;
}

fn put_text(into: &mut Element, name: &str, text: Option<String>) -> Result<(), Problem> {
    text.map_or(Ok(()), |text| put(into, name, text))
}

fn put<T: Write>(into: &mut Element, name: &str, one: T) -> Result<(), Problem> {
    let mut child = Element::new(name, ns::VCARD);
    one.write(&mut child)?;
    into.push(child);
    Ok(())
}

fn put_all<T: Write>(into: &mut Element, name: &str, all: Option<Vec<T>>) -> Result<(), Problem> {
    let all = all.unwrap_or_default();
    check_list(&all)?;
    all.into_iter().try_for_each(|one| put(into, name, one))
}

fn put_tags<T: Tag>(into: &mut Element, tags: Option<Vec<T>>) -> Result<(), Problem> {
    let tags = tags.unwrap_or_default();
    check_list(&tags)?;
    for tag in tags {
        into.push(Element::new(tag.name(), ns::VCARD));
    }
    Ok(())
}

/// Of several ways to say something exactly one is taken: a reader of the vCard would see one alone.
fn check_one_of(ways: &[bool], names: &str) -> Result<(), Problem> {
    if ways.iter().filter(|is_taken| **is_taken).count() == 1 {
        return Ok(());
    }
    let text = format!("exactly one of {names} is expected");
    Err(Problem::new("input_coercion", text))
}

impl VcardInput {
    /// The element that says so.
    pub(super) fn into_element(self) -> Result<Element, Problem> {
        let mut vcard = Element::new("vCard", ns::VCARD);
        self.write(&mut vcard)?;
        Ok(vcard)
    }
}

impl Write for VcardInput {
    fn write(self, into: &mut Element) -> Result<(), Problem> {
        let nickname = self.nickname.map(|all| all.into_iter().flatten().collect());
        put(into, "FN", self.formatted_name)?;
        put(into, "N", self.name_components)?;
        put_all::<String>(into, "NICKNAME", nickname)?;
        put_all(into, "PHOTO", self.photo)?;
        put_all(into, "BDAY", self.birthday)?;
        put_all(into, "ADR", self.address)?;
        put_all(into, "LABEL", self.label)?;
        put_all(into, "TEL", self.telephone)?;
        put_all(into, "EMAIL", self.email)?;
        put_all(into, "JABBERID", self.jabber_id)?;
        put_all(into, "MAILER", self.mailer)?;
        put_all(into, "TZ", self.time_zone)?;
        put_all(into, "GEO", self.geo)?;
        put_all(into, "TITLE", self.title)?;
        put_all(into, "ROLE", self.role)?;
        put_all(into, "LOGO", self.logo)?;
        put_all(into, "AGENT", self.agent)?;
        put_all(into, "ORG", self.org)?;
        put_all(into, "CATEGORIES", self.categories)?;
        put_all(into, "NOTE", self.note)?;
        put_all(into, "PRODID", self.prod_id)?;
        put_all(into, "REV", self.rev)?;
        put_all(into, "SORT-STRING", self.sort_string)?;
        put_all(into, "SOUND", self.sound)?;
        put_all(into, "UID", self.uid)?;
        put_all(into, "URL", self.url)?;
        put_all(into, "CLASS", self.class)?;
        put_all(into, "KEY", self.key)?;
        put_all(into, "DESC", self.desc)
    }
}

impl Write for String {
    fn write(self, into: &mut Element) -> Result<(), Problem> {
        // It would be written as another character.
        if !is_writable(&self) {
            let text = "a text has a character that XML does not allow";
            return Err(Problem::new("input_coercion", text));
        }
        into.push_text(&self);
        Ok(())
    }
}

impl Write for NameComponentsInput {
    fn write(self, into: &mut Element) -> Result<(), Problem> {
        put_text(into, "FAMILY", self.family)?;
        put_text(into, "GIVEN", self.given_name)?;
        put_text(into, "MIDDLE", self.middle_name)?;
        put_text(into, "PREFIX", self.prefix)?;
        put_text(into, "SUFFIX", self.suffix)
    }
}

impl Write for ImageInput {
    fn write(self, into: &mut Element) -> Result<(), Problem> {
        let ways = [self.bin_value.is_some(), self.ext_value.is_some()];
        check_one_of(&ways, "binValue and extValue")?;
        put_text(into, "TYPE", self.media_type)?;
        put_text(into, "BINVAL", self.bin_value)?;
        put_text(into, "EXTVAL", self.ext_value)
    }
}

impl Write for AddressInput {
    fn write(self, into: &mut Element) -> Result<(), Problem> {
        put_tags(into, self.tags)?;
        put_text(into, "POBOX", self.pobox)?;
        put_text(into, "EXTADD", self.extadd)?;
        put_text(into, "STREET", self.street)?;
        put_text(into, "LOCALITY", self.locality)?;
        put_text(into, "REGION", self.region)?;
        put_text(into, "PCODE", self.pcode)?;
        put_text(into, "CTRY", self.country)
    }
}

impl Write for LabelInput {
    fn write(self, into: &mut Element) -> Result<(), Problem> {
        put_tags(into, self.tags)?;
        put_all(into, "LINE", Some(self.line))
    }
}

impl Write for TelephoneInput {
    fn write(self, into: &mut Element) -> Result<(), Problem> {
        put_tags(into, self.tags)?;
        put(into, "NUMBER", self.number)
    }
}

impl Write for EmailInput {
    fn write(self, into: &mut Element) -> Result<(), Problem> {
        put_tags(into, self.tags)?;
        put(into, "USERID", self.user_id)
    }
}

impl Write for GeographicalPositionInput {
    fn write(self, into: &mut Element) -> Result<(), Problem> {
        put(into, "LAT", self.lat)?;
        put(into, "LON", self.lon)
    }
}

impl Write for AgentInput {
    fn write(self, into: &mut Element) -> Result<(), Problem> {
        let ways = [self.vcard.is_some(), self.ext_value.is_some()];
        check_one_of(&ways, "vcard and extValue")?;
        put_text(into, "EXTVAL", self.ext_value)?;
        match self.vcard {
            Some(AgentVcardInput(vcard)) => put(into, "vCard", *vcard),
            None => Ok(()),
        }
    }
}

impl Write for OrganizationInput {
    fn write(self, into: &mut Element) -> Result<(), Problem> {
        put(into, "ORGNAME", self.orgname)?;
        put_all(into, "ORGUNIT", self.orgunit)
    }
}

impl Write for KeywordInput {
    fn write(self, into: &mut Element) -> Result<(), Problem> {
        put_all(into, "KEYWORD", self.keyword)
    }
}

impl Write for SoundInput {
    fn write(self, into: &mut Element) -> Result<(), Problem> {
        let all = [&self.phonetic, &self.bin_value, &self.ext_value];
        check_one_of(&all.map(Option::is_some), "phonetic, binValue and extValue")?;
        put_text(into, "PHONETIC", self.phonetic)?;
        put_text(into, "BINVAL", self.bin_value)?;
        put_text(into, "EXTVAL", self.ext_value)
    }
}

impl Write for PrivacyInput {
    fn write(self, into: &mut Element) -> Result<(), Problem> {
        put_tags(into, self.tags)
    }
}

impl Write for KeyInput {
    fn write(self, into: &mut Element) -> Result<(), Problem> {
        put_text(into, "TYPE", self.sort)?;
        put(into, "CRED", self.credential)
    }
}
