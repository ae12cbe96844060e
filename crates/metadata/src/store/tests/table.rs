//! The rows without a database under them.

use std::collections::BTreeMap;

use super::super::rows::{self, Rows};
use crate::machine::{Change, Image};

/// All rows.
#[derive(Debug, Default)]
pub(crate) struct Table(BTreeMap<Vec<u8>, Vec<u8>>);

impl Rows for Table {
    fn put(&mut self, key: &[u8], value: Vec<u8>) {
        self.0.insert(key.to_vec(), value);
    }

    fn delete(&mut self, key: &[u8]) {
        self.0.remove(key);
    }
}

impl Table {
    /// Carries changes out.
    pub(crate) fn write(&mut self, changes: &[Change]) {
        changes.iter().for_each(|change| rows::add(self, change));
    }

    /// The one row that there is.
    pub(crate) fn only(self) -> (Vec<u8>, Vec<u8>) {
        assert_eq!(self.0.len(), 1);
        self.0.into_iter().next().unwrap()
    }

    /// The image that the rows make.
    pub(crate) fn rebuild(&self, mut image: Image) -> Image {
        for kind in rows::IMAGE_KINDS {
            for (key, value) in self.0.range(rows::all_of(kind)) {
                image.apply(&[rows::decode(key, value).unwrap()]);
            }
        }
        image
    }
}
