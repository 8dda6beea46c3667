"""Pretraining of small Chinese BERT models: text → packed sequences → masked language model."""
