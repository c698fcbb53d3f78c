"""Wav2Lip (ACM MM 2020): redraws the lower half of a face, judged by a lip-sync expert."""
