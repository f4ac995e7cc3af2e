//! What policies may ask about: stores, runtimes, the catalogue, the cluster; and the configuration.
