"""The options of sd-scripts' train_network.py, one by one: the setting that is their equal, what happens here instead, or why there is none.

Options whose value has to be read in another way are in `convert.py`; DEFAULTS are those of sd-scripts where this project has others.
"""

from __future__ import annotations

from typing import Any

from fashion_ml.runtime.language import marked

SAME: dict[str, str] = {
    "pretrained_model_name_or_path": "model.base",
    "clip_skip": "model.clip_skip",
    "train_data_dir": "data.train_data_dir",
    "reg_data_dir": "data.reg_data_dir",
    "enable_bucket": "data.enable_bucket",
    "bucket_no_upscale": "data.bucket_no_upscale",
    "bucket_reso_steps": "data.bucket_reso_steps",
    "min_bucket_reso": "data.min_bucket_reso",
    "max_bucket_reso": "data.max_bucket_reso",
    "caption_extension": "data.caption_extension",
    "caption_extention": "data.caption_extension",
    "caption_prefix": "data.caption_prefix",
    "caption_suffix": "data.caption_suffix",
    "caption_separator": "data.caption_separator",
    "shuffle_caption": "data.shuffle_caption",
    "keep_tokens": "data.keep_tokens",
    "keep_tokens_separator": "data.keep_tokens_separator",
    "secondary_separator": "data.secondary_separator",
    "enable_wildcard": "data.enable_wildcard",
    "caption_dropout_rate": "data.caption_dropout_rate",
    "caption_dropout_every_n_epochs": "data.caption_dropout_every_n_epochs",
    "caption_tag_dropout_rate": "data.caption_tag_dropout_rate",
    "max_token_length": "data.max_token_length",
    "weighted_captions": "data.weighted_captions",
    "flip_aug": "data.flip_aug",
    "validation_split": "data.validation_split",
    "validation_seed": "data.validation_seed",
    "network_dim": "network.rank",
    "network_alpha": "network.alpha",
    "network_dropout": "network.dropout",
    "network_weights": "network.network_weights",
    "scale_weight_norms": "network.scale_weight_norms",
    "max_grad_norm": "optimizer.max_grad_norm",
    "lr_scheduler_power": "optimizer.lr_scheduler_power",
    "lr_scheduler_min_lr_ratio": "optimizer.lr_scheduler_min_lr_ratio",
    "lr_decay_steps": "optimizer.lr_decay_steps",
    "lr_scheduler_num_cycles": "optimizer.lr_scheduler_num_cycles",
    "lr_warmup_steps": "optimizer.lr_warmup_steps",
    "max_train_steps": "training.max_train_steps",
    "max_train_epochs": "training.max_train_epochs",
    "train_batch_size": "training.train_batch_size",
    "gradient_accumulation_steps": "training.gradient_accumulation_steps",
    "gradient_checkpointing": "training.gradient_checkpointing",
    "mixed_precision": "training.mixed_precision",
    "torch_compile": "training.compile",
    "seed": "training.seed",
    "save_every_n_epochs": "training.save_every_n_epochs",
    "save_every_n_steps": "training.save_every_n_steps",
    "validate_every_n_steps": "training.validate_every_n_steps",
    "sample_every_n_steps": "training.sample_every",
    "huber_c": "loss.huber_c",
    "huber_schedule": "loss.huber_schedule",
    "min_snr_gamma": "loss.min_snr_gamma",
    "debiased_estimation_loss": "loss.debiased_estimation",
    "noise_offset": "loss.noise_offset",
    "multires_noise_iterations": "loss.multires_noise_iterations",
    "multires_noise_discount": "loss.multires_noise_discount",
    "ip_noise_gamma": "loss.ip_noise_gamma",
    "min_timestep": "loss.min_timestep",
    "max_timestep": "loss.max_timestep",
    "v_pred_like_loss": "loss.v_pred_like_loss",
    "prior_loss_weight": "loss.prior_loss_weight",
    "save_precision": "output.save_precision",
    "training_comment": "output.training_comment",
}
"""Options that mean what a setting means, with the same values."""


NULLABLE = frozenset(
    {"min_snr_gamma", "sample_every_n_steps", "save_every_n_epochs", "save_every_n_steps", "max_train_epochs", "max_timestep"}
) | {
    *(
        "max_train_steps",
        "clip_skip",
        "max_token_length",
        "network_dim",
        "seed",
        "network_dropout",
        "validate_every_n_steps",
        "scale_weight_norms",
    )
}
"""Of these the value 0 means that they are not given."""

CONVERTED: dict[str, str] = {
    "resolution": "data.resolution",
    "learning_rate": "optimizer.learning_rate",
    "unet_lr": "optimizer.learning_rate",
    "text_encoder_lr": "optimizer.text_encoder_lr",
    "network_train_unet_only": "network.train_text_encoder",
    "network_module": "network",
    "network_args": "network",
    "optimizer_type": "optimizer.optimizer_type",
    "optimizer_args": "optimizer",
    "use_8bit_adam": "optimizer.optimizer_type",
    "use_lion_optimizer": "optimizer.optimizer_type",
    "lr_scheduler": "optimizer.lr_scheduler",
    "loss_type": "loss.loss_type",
    "v2": "model.prediction_type",
    "v_parameterization": "model.prediction_type",
    "zero_terminal_snr": "model.zero_terminal_snr",
    "scale_v_pred_loss_like_noise_pred": "loss.scale_v_pred_loss_like_noise_pred",
    "save_last_n_epochs": "training.save_last_n",
    "save_last_n_steps": "training.save_last_n",
    "save_n_epoch_ratio": "training.save_every_n_epochs",
    "save_state": "training.save_state",
    "sample_prompts": "training.sample_prompts",
    "output_dir": "output.output_dir",
    "output_name": "output.output_name",
    "log_with": "tracking.log_with",
    "wandb_run_name": "name",
    "cache_latents": "data.cache_latents",
    "cache_latents_to_disk": "data.cache_dir",
    "alpha_mask": "data.masks",
    "masked_loss": "data.masks",
    "conditioning_data_dir": "data.masks_dir",
}
"""Options whose values are read in `convert.py`, and where they go."""

_MEMORY = marked("not needed: this trainer's own attention and memory are used")
_LOADING = marked("not needed: images are read and encoded once, in threads")
_METADATA = marked("left out: training_comment is the file's free text here")
_RUNS = marked("not needed: runs are in MLflow, named by tracking.experiment")
_UPLOAD = marked("nothing is uploaded; `fashion-ml register` and MLflow keep the files")
_PROCESSES = marked("accelerate's own; start several processes by `accelerate launch -m fashion_ml train lora`")
_WORDS = {
    _MEMORY: "xformers sdpa mem_eff_attn lowram lowvram highvram mem_eff_save cpu_offload_checkpointing disable_mmap_load_safetensors "
    "no_half_vae blocks_to_swap attn_mode fp8_base_unet no_token_padding",
    _LOADING: "max_data_loader_n_workers persistent_data_loader_workers vae_batch_size skip_cache_check cache_info tokenizer_cache_dir "
    "cache_text_encoder_outputs cache_text_encoder_outputs_to_disk text_encoder_batch_size",
    _METADATA: "metadata_title metadata_author metadata_description metadata_license metadata_tags metadata_usage_hint metadata_thumbnail "
    "metadata_merged_from metadata_trigger_phrase metadata_preprocessor metadata_is_negative_embedding",
    _RUNS: "logging_dir log_prefix log_tracker_name log_tracker_config wandb_api_key log_config console_log_level console_log_file "
    "console_log_simple",
    _UPLOAD: "huggingface_repo_id huggingface_repo_type huggingface_path_in_repo huggingface_token huggingface_repo_visibility "
    "save_state_to_huggingface async_upload",
    _PROCESSES: "num_processes num_machines multi_gpu gpu_ids main_process_port num_cpu_threads_per_process extra_accelerate_launch_args "
    "ddp_timeout ddp_gradient_as_bucket_view ddp_static_graph dynamo_mode dynamo_use_fullgraph dynamo_use_dynamic",
}
NOT_NEEDED: dict[str, str] = {name: reason for reason, names in _WORDS.items() for name in names.split()} | {
    "use_safetensors": marked("not needed: LoRAs are .safetensors"),
    "dynamo_backend": marked("torch.compile's default is used, where training.compile is on"),
    "sample_sampler": marked("sample images are made by DDIM, as those of the evaluation"),
    "save_state_on_train_end": marked("not needed: training.save_state keeps a state to go on from"),
    "save_last_n_epochs_state": marked("not needed: one state is kept, the last"),
    "save_last_n_steps_state": marked("not needed: one state is kept, the last"),
    "output_config": marked("not needed: every run has its config.yaml"),
    "debug_dataset": marked("`fashion-ml data DIR` shows what a data set holds"),
    "token_warmup_min": marked("counts with token_warmup_step alone"),
    "lr_scheduler_timescale": marked("counts with the inverse_sqrt schedule alone"),
    "noise_offset_random_strength": marked("counts with noise_offset alone"),
    "ip_noise_gamma_random_strength": marked("counts with ip_noise_gamma alone"),
    "validate_every_n_epochs": marked("val_loss is measured every epoch, or every training.validate_every_n_steps"),
    "epoch": marked("a note of the GUI; max_train_epochs and max_train_steps decide"),
    "noise_offset_type": marked("a note of the GUI; noise_offset and multires_noise_iterations decide"),
    "train_inpainting": marked("a note of the GUI"),
    **dict.fromkeys(
        [
            "zero_stage",
            "offload_optimizer_device",
            "offload_optimizer_nvme_path",
            "offload_param_device",
            "offload_param_nvme_path",
            "zero3_init_flag",
            "zero3_save_16bit_model",
            "fp16_master_weights_and_gradients",
        ],
        marked("counts with deepspeed alone"),
    ),
    "dataset_config": marked("read as a file of its own"),
    "config_file": marked("read as a file of its own"),
}
"""Options that change nothing that is learnt here, and what is so instead."""

NO_EQUAL: dict[str, str] = {
    "vae": marked("the base's own VAE is used; put the other one into the base"),
    "in_json": marked("captions are files beside the images"),
    "metadata_file": marked("captions are files beside the images"),
    "dataset_class": marked("code from elsewhere is not run"),
    "color_aug": marked("colours are what is learnt and measured here; they are not changed"),
    "face_crop_aug_range": marked("images are cropped at their centre"),
    "random_crop": marked("images are cropped at their centre"),
    "resize_interpolation": marked("images are scaled by Lanczos"),
    "token_warmup_step": marked("all parts of a caption are seen from the first step on"),
    "dataset_repeats": marked("repeats are the number in the folder's name, or a subset's num_repeats"),
    "custom_attributes": marked("nothing here reads them"),
    "network_multiplier": marked("the LoRA trains at full strength"),
    "network_train_text_encoder_only": marked("the UNet always trains"),
    "dim_from_weights": marked("network.rank has to be that of network_weights; an error says which it is"),
    "base_weights": marked("no LoRA is merged into the base; merge it beforehand"),
    "base_weights_multiplier": marked("no LoRA is merged into the base; merge it beforehand"),
    "stop_text_encoder_training": marked("the text encoder trains to the end, or not at all"),
    "lr_scheduler_type": marked("the schedules are those of optimizer.lr_scheduler"),
    "lr_scheduler_args": marked("the schedules have lr_warmup_steps, lr_scheduler_power and lr_scheduler_num_cycles"),
    "fused_backward_pass": marked("optimisers step after the whole backward pass"),
    "full_fp16": marked("LoRA weights stay float32, which is what mixed_precision alone does"),
    "full_bf16": marked("LoRA weights stay float32, which is what mixed_precision alone does"),
    "fp8_base": marked("the base is held in the precision of training.mixed_precision"),
    "adaptive_noise_scale": marked("loss.noise_offset is the same for all images"),
    "huber_scale": marked("the Huber parameter is not scaled"),
    "max_validation_steps": marked("all held-out images are measured"),
    "sample_at_first": marked("the first samples are made after training.sample_every steps"),
    "sample_every_n_epochs": marked("samples are made by steps; give training.sample_every"),
    "save_model_as": marked("LoRAs are .safetensors"),
    "no_metadata": marked("metadata are what WebUIs and `fashion-ml inspect` read"),
    "resume": marked("states of sd-scripts cannot be read; --resume goes on with a run of this project"),
    "resume_from_huggingface": marked("--resume goes on with a run of this project"),
    "initial_epoch": marked("--resume goes on where a run was stopped"),
    "initial_step": marked("--resume goes on where a run was stopped"),
    "skip_until_initial_step": marked("--resume goes on where a run was stopped"),
    "deepspeed": marked("there is no DeepSpeed; a LoRA's states are small"),
    "base_model": marked("the bases are Stable Diffusion 1.x, 2.x and XL; give one by --base"),
}
"""Options that change what is learnt and have no equal here, and why."""

NEUTRAL: dict[str, tuple[Any, ...]] = {
    "huber_scale": (1, 1.0, "1", "1.0"),
    "save_model_as": ("safetensors",),
    "dataset_repeats": (1, "1"),
    "network_multiplier": (1, 1.0, "1", "1.0"),
    "resize_interpolation": ("lanczos",),
    "base_weights_multiplier": (1, 1.0),
}
"""Values beside nothing, 0 and false with which an option without an equal asks for what is so here too."""

DEFAULTS: dict[str, Any] = {
    "data.caption_extension": ".caption",
    "network.rank": 4,
    "network.alpha": 1.0,
    "network.feed_forward": True,
    "network.projections": True,
    "network.train_text_encoder": True,
    "optimizer.learning_rate": 2e-6,
    "training.max_train_steps": 1600,
    "training.save_every_n_epochs": None,
    "output.output_name": "last",
    "evaluation.enabled": False,
}
"""What sd-scripts does when nothing is said, where this project does something else."""


def known_options() -> frozenset[str]:
    """All names."""
    return frozenset({*SAME, *CONVERTED, *NOT_NEEDED, *NO_EQUAL})
