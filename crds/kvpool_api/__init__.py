"""The API: what a user may ask (spec), what is answered (status), what operator and router tell each other (wire)."""
