"""A trace on a screen: the Perfetto UI, opened on it. Free of torch."""
