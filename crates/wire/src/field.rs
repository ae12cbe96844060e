//! What a table line says about a field, as constants: in which versions it is there, may be null, is tagged.
//! Versions are written as Kafka writes them: `"3+"`, `"0-12"`, `"7"`.

/// A range of versions, both ends included.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Versions {
    pub(crate) min: i16,
    pub(crate) max: i16,
}

impl Versions {
    pub(crate) const NONE: Self = Self { min: 0, max: -1 };

    /// Reads Kafka's notation; anything else does not compile, as this only runs in constants.
    pub(crate) const fn parse(text: &str) -> Self {
        let text = text.as_bytes();
        let (min, at) = number(text, 0);
        if at == text.len() {
            return Self { min, max: min };
        }
        if text[at] == b'+' {
            assert!(at + 1 == text.len(), "nothing follows the plus");
            return Self { min, max: i16::MAX };
        }
        assert!(text[at] == b'-', "versions are written 3, 3+ or 3-7");
        let (max, end) = number(text, at + 1);
        assert!(end == text.len() && min <= max, "versions are written 3, 3+ or 3-7");
        Self { min, max }
    }

    pub(crate) const fn contains(self, version: i16) -> bool {
        self.min <= version && version <= self.max
    }
}

const fn number(text: &[u8], mut at: usize) -> (i16, usize) {
    let start = at;
    let mut value: i16 = 0;
    while at < text.len() && text[at].is_ascii_digit() {
        value = value * 10 + (text[at] - b'0') as i16;
        at += 1;
    }
    assert!(at > start, "a version number");
    (value, at)
}

/// One line of a table.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Field {
    pub(crate) name: &'static str,
    versions: Versions,
    nullable: Versions,
    tagged: Versions,
    pub(crate) tag: u32,
    pub(crate) ignorable: bool,
}

impl Field {
    pub(crate) const fn new(name: &'static str, versions: &str) -> Self {
        Self {
            name,
            versions: Versions::parse(versions),
            nullable: Versions::NONE,
            tagged: Versions::NONE,
            tag: 0,
            ignorable: false,
        }
    }

    /// May be null in these versions.
    pub(crate) const fn nullable(mut self, versions: &str) -> Self {
        self.nullable = Versions::parse(versions);
        self
    }

    /// Is a tagged field in these versions.
    pub(crate) const fn tagged(mut self, tag: u32, versions: &str) -> Self {
        self.tag = tag;
        self.tagged = Versions::parse(versions);
        self
    }

    /// Is silently left out of versions that lack it; without this, a value there is an error.
    pub(crate) const fn ignorable(mut self) -> Self {
        self.ignorable = true;
        self
    }

    /// The same for an element of this field's array, which is never null.
    pub(crate) const fn element(mut self) -> Self {
        self.nullable = Versions::NONE;
        self
    }

    pub(crate) const fn is_present(&self, version: i16) -> bool {
        self.versions.contains(version)
    }

    /// Present, and in its place rather than among the tagged fields.
    pub(crate) const fn is_plain(&self, version: i16) -> bool {
        self.is_present(version) && !self.tagged.contains(version)
    }

    pub(crate) const fn is_tagged(&self, version: i16) -> bool {
        self.is_present(version) && self.tagged.contains(version)
    }

    pub(crate) const fn is_nullable(&self, version: i16) -> bool {
        self.nullable.contains(version)
    }
}

/// Where in the protocol a value is read or written.
#[derive(Debug, Clone, Copy)]
pub(crate) struct At {
    pub(crate) version: i16,
    /// Compact lengths and tagged fields (KIP-482).
    pub(crate) flexible: bool,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_read_as_kafka_writes_them() {
        assert_eq!(Versions::parse("3+"), Versions { min: 3, max: i16::MAX });
        assert_eq!(Versions::parse("0-12"), Versions { min: 0, max: 12 });
        assert_eq!(Versions::parse("7"), Versions { min: 7, max: 7 });
        let field = Field::new("a.b", "2-9").nullable("3+").tagged(1, "5+");
        assert_eq!(
            [1, 2, 4, 5, 9, 10].map(|version| field.is_plain(version)),
            [false, true, true, false, false, false]
        );
        assert_eq!([4, 5, 9, 10].map(|version| field.is_tagged(version)), [false, true, true, false]);
        assert_eq!([2, 3].map(|version| field.is_nullable(version)), [false, true]);
        assert!(!field.element().is_nullable(3));
    }
}
