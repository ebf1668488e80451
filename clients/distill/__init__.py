"""A small local student of a platform's whole teacher: cheap to serve, learned without noise, never sent anywhere."""
