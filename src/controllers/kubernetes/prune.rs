//! Values that a controller keeps for each object. A deletion without a finalizer causes no reconcile, so nothing else ends them.

use std::collections::{HashMap, HashSet};
use std::hash::{BuildHasher, Hash};

use kube::runtime::reflector::{Lookup, Store};

/// Values beyond twice the number of objects that may stay, so that a small cluster is not searched each time.
const SPARE: usize = 64;

/// Removes the values of objects that are not in `store`, once most values may be theirs. `key` is that of `values`.
pub fn prune<K, V, S: BuildHasher>(
    values: &mut HashMap<String, V, S>,
    store: &Store<K>,
    key: impl Fn(&K) -> String,
) where
    K: Lookup<DynamicType: Eq + Hash + Clone> + Clone + 'static,
{
    if values.len() <= 2 * store.len() + SPARE {
        return;
    }
    let live: HashSet<String> = store.state().iter().map(|object| key(object)).collect();
    values.retain(|object, _| live.contains(object));
}

#[cfg(test)]
mod tests {
    use k8s_openapi::api::core::v1::ConfigMap;
    use kube::ResourceExt;
    use kube::runtime::reflector::store::Writer;
    use kube::runtime::watcher::Event;

    use super::*;

    fn config(number: usize) -> ConfigMap {
        let mut config = ConfigMap::default();
        config.metadata.name = Some(format!("config-{number}"));
        config
    }

    #[test]
    fn values_of_deleted_objects_do_not_pile_up() {
        let mut writer = Writer::<ConfigMap>::default();
        let (store, mut values) = (writer.as_reader(), HashMap::new());
        writer.apply_watcher_event(&Event::Apply(config(0)));
        for number in 0..1000 {
            writer.apply_watcher_event(&Event::Apply(config(number)));
            values.insert(config(number).name_any(), number);
            prune(&mut values, &store, ResourceExt::name_any);
            assert!(values.contains_key(&format!("config-{number}")), "it exists");
            if number > 0 {
                writer.apply_watcher_event(&Event::Delete(config(number)));
            }
            assert!(values.contains_key("config-0"), "it still exists");
        }
        assert!(values.len() < 100, "{} values of one object", values.len());
    }
}
