//! XEP-0115 and XEP-0390: Entity Capabilities: what a description of oneself is called by.
//!
//! Either way the parts of an answer to disco#info are put in order and hashed. The older way joins them by a
//! character that may stand in them, so descriptions in which it does have no name here.
use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use sha1::Sha1;
use sha2::{Digest as _, Sha224, Sha256, Sha384, Sha512};

use crate::{Element, ns};

/// A hash function, by the names of XEP-0300.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[allow(missing_docs, reason = "the names say it")]
pub enum HashName {
    Sha1,
    Sha224,
    Sha256,
    Sha384,
    Sha512,
}

/// Which of the two specifications.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Version {
    /// XEP-0115.
    V1,
    /// XEP-0390.
    V2,
}

/// The name that a client gives what it can do.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Name {
    /// How it is made.
    pub version: Version,
    /// By which function.
    pub hash: HashName,
    /// The digest in base64, as the client has written it.
    pub digest: Box<str>,
}

/// A name, and how its client is asked what it means.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Named {
    /// The name.
    pub name: Name,
    /// The node that is asked for.
    pub node: Box<str>,
}

/// Bytes of a digest in base64, and more than enough of them.
const DIGEST_BYTES_MAX: usize = 128;
/// Bytes of a client's node; what has a longer one says nothing.
const NODE_BYTES_MAX: usize = 512;

/// A description that has no name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct IllFormed;

impl fmt::Display for IllFormed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the description is ill-formed")
    }
}

impl std::error::Error for IllFormed {}

impl HashName {
    /// All that we know, the best for each specification last.
    pub const ALL: [Self; 5] = [
        Self::Sha1,
        Self::Sha224,
        Self::Sha384,
        Self::Sha512,
        Self::Sha256,
    ];

    /// Its name.
    pub fn name(self) -> &'static str {
        match self {
            Self::Sha1 => "sha-1",
            Self::Sha224 => "sha-224",
            Self::Sha256 => "sha-256",
            Self::Sha384 => "sha-384",
            Self::Sha512 => "sha-512",
        }
    }

    /// The function of that name, if we know it.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|hash| hash.name() == name)
    }

    fn base64(self, input: &[u8]) -> String {
        match self {
            Self::Sha1 => STANDARD.encode(Sha1::digest(input)),
            Self::Sha224 => STANDARD.encode(Sha224::digest(input)),
            Self::Sha256 => STANDARD.encode(Sha256::digest(input)),
            Self::Sha384 => STANDARD.encode(Sha384::digest(input)),
            Self::Sha512 => STANDARD.encode(Sha512::digest(input)),
        }
    }
}

impl Named {
    /// What a presence says, by the newer specification if it can be, of those in `versions`.
    pub fn of_presence(presence: &Element, versions: &[Version]) -> Option<Self> {
        let by = |version| {
            versions.contains(&version).then_some(())?;
            match version {
                Version::V1 => v1_of(presence.child("c", ns::CAPS)?),
                Version::V2 => v2_of(presence.child("c", ns::CAPS_2)?),
            }
        };
        by(Version::V2).or_else(|| by(Version::V1))
    }
}

impl Name {
    /// Whether a description is the one of that name.
    pub fn is_of(&self, query: &Element) -> bool {
        digest(query, self.version, self.hash).is_ok_and(|digest| digest == *self.digest)
    }
}

fn v1_of(c: &Element) -> Option<Named> {
    let hash = HashName::from_name(c.attr("hash")?)?;
    let (digest, node) = (c.attr("ver")?, c.attr("node")?);
    named(Version::V1, hash, digest, format!("{node}#{digest}"))
}

fn v2_of(c: &Element) -> Option<Named> {
    let known = c.elements().filter_map(|child| {
        let hash = child.is("hash", ns::HASHES).then(|| child.attr("algo"))??;
        Some((HashName::from_name(hash)?, child))
    });
    let (hash, child) = known.max_by_key(|(hash, _)| {
        let place = |known: &HashName| known == hash;
        HashName::ALL.iter().position(place)
    })?;
    let digest = child.text();
    let digest = digest.trim();
    named(Version::V2, hash, digest, node_v2(hash, digest))
}

fn named(version: Version, hash: HashName, digest: &str, node: String) -> Option<Named> {
    let is_sound = (1..=DIGEST_BYTES_MAX).contains(&digest.len()) && node.len() <= NODE_BYTES_MAX;
    is_sound.then(|| Named {
        name: Name {
            version,
            hash,
            digest: digest.into(),
        },
        node: node.into(),
    })
}

/// The node that is asked for by XEP-0390.
pub fn node_v2(hash: HashName, digest: &str) -> String {
    format!("{}#{}.{digest}", ns::CAPS_2, hash.name())
}

/// The digest of a description in base64.
///
/// # Errors
/// Descriptions that the specification calls ill-formed, or from which another one could be made with the same input.
pub fn digest(query: &Element, version: Version, hash: HashName) -> Result<String, IllFormed> {
    let input = match version {
        Version::V1 => input_v1(query)?,
        Version::V2 => input_v2(query)?,
    };
    Ok(hash.base64(&input))
}

/// An identity's category, type, language and name.
type Identity<'a> = [&'a str; 4];

fn identities<'a>(query: &'a Element) -> Vec<Identity<'a>> {
    let of_query = query.lang().unwrap_or_default();
    query
        .elements()
        .filter(|child| child.is("identity", ns::DISCO_INFO))
        .map(|identity| {
            let attr = |name| identity.attr(name).unwrap_or_default();
            let lang = identity.lang().unwrap_or(of_query);
            [attr("category"), attr("type"), lang, attr("name")]
        })
        .collect()
}

fn features(query: &Element) -> Vec<&str> {
    let features = query
        .elements()
        .filter(|child| child.is("feature", ns::DISCO_INFO));
    features
        .map(|feature| feature.attr("var").unwrap_or_default())
        .collect()
}

/// A field's name and its values, in order.
struct Field {
    var: String,
    is_hidden: bool,
    values: Vec<String>,
}

fn fields(form: &Element) -> Vec<Field> {
    let field = |field: &Element| {
        let values = field.elements().filter(|child| child.is("value", ns::FORM));
        let mut values: Vec<String> = values.map(|value| value.text().into_owned()).collect();
        values.sort_unstable();
        Field {
            var: field.attr("var").unwrap_or_default().to_owned(),
            is_hidden: field.attr("type") == Some("hidden"),
            values,
        }
    };
    let all = form.elements().filter(|child| child.is("field", ns::FORM));
    let mut all: Vec<Field> = all.map(field).collect();
    all.sort_by(|a, b| a.var.cmp(&b.var));
    all
}

fn forms(query: &Element) -> impl Iterator<Item = &Element> {
    query.elements().filter(|child| child.is("x", ns::FORM))
}

fn has_twins<T: PartialEq>(sorted: &[T]) -> bool {
    sorted.windows(2).any(|two| matches!(two, [a, b] if a == b))
}

/// Appends text and the separator, which must not stand in the text.
fn put(out: &mut Vec<u8>, text: &str, separator: u8) -> Result<(), IllFormed> {
    if text.as_bytes().contains(&separator) {
        return Err(IllFormed);
    }
    out.extend_from_slice(text.as_bytes());
    out.push(separator);
    Ok(())
}

/// XEP-0115 section 5.1, and what section 5.4 refuses.
fn input_v1(query: &Element) -> Result<Vec<u8>, IllFormed> {
    const SEPARATOR: u8 = b'<';
    let mut out = Vec::new();
    let mut identities = identities(query);
    identities.sort_unstable();
    let mut features = features(query);
    features.sort_unstable();
    if has_twins(&identities) || has_twins(&features) {
        return Err(IllFormed);
    }
    for [category, kind, lang, name] in identities {
        put(
            &mut out,
            &format!("{category}/{kind}/{lang}/{name}"),
            SEPARATOR,
        )?;
    }
    for feature in features {
        put(&mut out, feature, SEPARATOR)?;
    }
    let mut typed = Vec::new();
    for form in forms(query) {
        let fields = fields(form);
        let is_type = |field: &&Field| field.var == "FORM_TYPE";
        let mut types = fields.iter().filter(is_type);
        match (types.next(), types.next()) {
            // What has no type is left out.
            (None, _) => continue,
            (Some(field), None) if field.is_hidden => match &field.values[..] {
                [form_type] => typed.push((form_type.clone(), fields)),
                _ => return Err(IllFormed),
            },
            (Some(_), None) => continue,
            (Some(_), Some(_)) => return Err(IllFormed),
        }
    }
    typed.sort_by(|(a, _), (b, _)| a.cmp(b));
    let types: Vec<&String> = typed.iter().map(|(form_type, _)| form_type).collect();
    if has_twins(&types) {
        return Err(IllFormed);
    }
    for (form_type, fields) in &typed {
        put(&mut out, form_type, SEPARATOR)?;
        for field in fields.iter().filter(|field| field.var != "FORM_TYPE") {
            put(&mut out, &field.var, SEPARATOR)?;
            for value in &field.values {
                put(&mut out, value, SEPARATOR)?;
            }
        }
    }
    Ok(out)
}

/// XEP-0390 section 4.1. Its separators are characters that XML has not.
fn input_v2(query: &Element) -> Result<Vec<u8>, IllFormed> {
    const FILE: u8 = 0x1c;
    const GROUP: u8 = 0x1d;
    const RECORD: u8 = 0x1e;
    const UNIT: u8 = 0x1f;
    let is_known = |child: &Element| {
        child.ns() == ns::DISCO_INFO && matches!(child.name(), "identity" | "feature")
            || child.is("x", ns::FORM)
    };
    if !query.elements().all(is_known) {
        return Err(IllFormed);
    }
    let join = |mut parts: Vec<Vec<u8>>, end: u8| {
        parts.sort_unstable();
        let mut joined = parts.concat();
        joined.push(end);
        joined
    };
    let feature = |feature: &str| {
        let mut out = Vec::new();
        put(&mut out, feature, UNIT).map(|()| out)
    };
    let identity = |identity: Identity<'_>| {
        let mut out = Vec::new();
        for part in identity {
            put(&mut out, part, UNIT)?;
        }
        out.push(RECORD);
        Ok(out)
    };
    let field = |field: &Field| {
        let mut out = Vec::new();
        put(&mut out, &field.var, UNIT)?;
        for value in &field.values {
            put(&mut out, value, UNIT)?;
        }
        out.push(RECORD);
        Ok(out)
    };
    let form = |form: &Element| {
        let is_field = |child: &Element| child.is("field", ns::FORM);
        if !form.elements().all(is_field) {
            return Err(IllFormed);
        }
        let fields = fields(form);
        if !fields.iter().any(|field| field.var == "FORM_TYPE") {
            return Err(IllFormed);
        }
        let fields = fields.iter().map(field);
        Ok(join(fields.collect::<Result<_, _>>()?, GROUP))
    };
    let features = features(query).into_iter().map(feature);
    let identities = identities(query).into_iter().map(identity);
    let mut out = join(features.collect::<Result<_, _>>()?, FILE);
    out.extend(join(identities.collect::<Result<_, _>>()?, FILE));
    out.extend(join(
        forms(query).map(form).collect::<Result<_, _>>()?,
        FILE,
    ));
    Ok(out)
}

#[cfg(test)]
mod tests;
