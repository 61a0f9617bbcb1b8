"""Class names <-> ids 1..K, from label_map.txt and the other forms that people have."""
