//! The configuration that holds for each topic, resolved once: every produce asks for it.
//!
//! What is resolved holds as long as the maps that it was made of are the same ones, which the image shares between its
//! versions.

use std::collections::HashMap;
use std::sync::Arc;

use ::metadata::{Configs, Image, Topic, TopicConfig};
use ::records::{BrokerId, TopicId};
use arc_swap::ArcSwap;
use parking_lot::RwLock;

/// What is set on all brokers, and on this one.
type Layers = [Option<Arc<Configs>>; 2];

/// Topics' configurations on one broker.
#[derive(Debug)]
pub(super) struct TopicConfigs {
    broker: BrokerId,
    /// What the broker's file says, by Kafka's names.
    file: Configs,
    now: ArcSwap<Resolved>,
}

#[derive(Debug)]
struct Resolved {
    layers: Layers,
    defaults: Configs,
    /// Of a topic on which nothing is set.
    plain: TopicConfig,
    topics: RwLock<HashMap<TopicId, (Arc<Configs>, TopicConfig)>>,
}

impl TopicConfigs {
    pub(super) fn new(broker: BrokerId, file: Configs) -> Self {
        let now = ArcSwap::from_pointee(Resolved::new([None, None], file.clone()));
        Self { broker, file, now }
    }

    /// The configuration that holds for a topic.
    pub(super) fn of(&self, image: &Image, topic: &Topic) -> TopicConfig {
        let layers = [None, Some(self.broker)].map(|of| image.broker_configs.get(&of));
        let resolved = self.now.load();
        if same(&resolved.layers, layers) {
            return resolved.topic(image, topic);
        }
        let mut defaults = self.file.clone();
        defaults.extend(image.broker_config(self.broker));
        let resolved = Arc::new(Resolved::new(layers.map(|layer| layer.cloned()), defaults));
        self.now.store(resolved.clone());
        resolved.topic(image, topic)
    }
}

fn same(known: &Layers, now: [Option<&Arc<Configs>>; 2]) -> bool {
    known.iter().zip(now).all(|(known, now)| match (known, now) {
        (None, None) => true,
        (Some(known), Some(now)) => Arc::ptr_eq(known, now),
        _ => false,
    })
}

impl Resolved {
    fn new(layers: Layers, defaults: Configs) -> Self {
        let plain = TopicConfig::resolve(&Configs::new(), &defaults);
        Self { layers, defaults, plain, topics: RwLock::default() }
    }

    fn topic(&self, image: &Image, topic: &Topic) -> TopicConfig {
        if topic.configs.is_empty() {
            return self.plain;
        }
        if let Some((configs, resolved)) = self.topics.read().get(&topic.id)
            && Arc::ptr_eq(configs, &topic.configs)
        {
            return *resolved;
        }
        let resolved = topic.config(&self.defaults);
        let mut topics = self.topics.write();
        if topics.len() > image.topics.len() {
            // Some of them are deleted.
            topics.retain(|id, _| image.topics.contains_key(id));
        }
        topics.insert(topic.id, (topic.configs.clone(), resolved));
        resolved
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn configs(key: &str, value: &str) -> Arc<Configs> {
        Arc::new(Configs::from([(key.to_owned(), value.to_owned())]))
    }

    fn topic(id: u128, configs: Arc<Configs>) -> Topic {
        let id = TopicId(uuid::Uuid::from_u128(id));
        let (name, created_at) = ("t".into(), ::records::Timestamp(0));
        Topic { id, name, partitions: Vec::new(), configs, internal: false, created_at }
    }

    #[test]
    fn every_layer_shows_and_every_change_of_one() {
        let configured = TopicConfigs::new(BrokerId(1), Configs::from([("message.max.bytes".into(), "1000".into())]));
        let mut image = Image::new(uuid::Uuid::nil(), ::metadata::Limits::default());
        let plain = topic(1, Arc::default());
        let bytes = |image: &Image, topic: &Topic| configured.of(image, topic).max_message_bytes;
        assert_eq!(bytes(&image, &plain), 1000, "the file");
        image.broker_configs.insert(None, configs("message.max.bytes", "2000"));
        assert_eq!(bytes(&image, &plain), 2000, "all brokers");
        image.broker_configs.insert(Some(BrokerId(2)), configs("message.max.bytes", "3000"));
        assert_eq!(bytes(&image, &plain), 2000, "another broker");
        image.broker_configs.insert(Some(BrokerId(1)), configs("message.max.bytes", "4000"));
        assert_eq!(bytes(&image, &plain), 4000, "this broker");
        let mut own = topic(2, configs("max.message.bytes", "5000"));
        assert_eq!([bytes(&image, &own), bytes(&image, &own)], [5000, 5000], "the topic");
        own.configs = configs("max.message.bytes", "6000");
        assert_eq!(bytes(&image, &own), 6000, "the topic, changed");
        image.broker_configs.remove(&Some(BrokerId(1)));
        assert_eq!([bytes(&image, &plain), bytes(&image, &own)], [2000, 6000]);
    }

    #[test]
    fn deleted_topics_are_forgotten() {
        let configured = TopicConfigs::new(BrokerId(1), Configs::new());
        let image = Image::new(uuid::Uuid::nil(), ::metadata::Limits::default());
        for id in 0..100 {
            configured.of(&image, &topic(id, configs("max.message.bytes", "5000")));
        }
        assert!(configured.now.load().topics.read().len() <= 2);
    }
}
