"""The small gpt-oss that ships with moxie: its training text, tokenizer, training and export (see README.md)."""
