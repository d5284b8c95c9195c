"""Entries made public: the files of a results repository, laid out in a folder or on the Hugging Face hub."""
