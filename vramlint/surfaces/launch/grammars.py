"""Which options each launcher and wrapper takes before the program that it starts."""

from __future__ import annotations

from vramlint.surfaces.launch.words import grammar

TORCHRUN = grammar(
    "nnodes nproc_per_node rdzv_backend rdzv_endpoint rdzv_id rdzv_conf max_restarts monitor_interval "
    "start_method event_log_handler role log_dir redirects tee local_ranks_filter node_rank master_addr "
    "master_port local_addr logs_specs numa_binding signals_to_handle shutdown_timeout "
    "duplicate_stdout_filters duplicate_stderr_filters",
    "standalone m module no_python run_path use_env virtual_local_rank h help",
    "r:redirects t:tee",
)
"""torch 2.9 distributed/run.py and distributed/launch.py."""

DEEPSPEED = grammar(
    "hostfile include exclude num_nodes min_elastic_nodes max_elastic_nodes num_gpus master_port node_rank "
    "master_addr launcher launcher_args autotuning bind_core_list ssh_port venv_script enable_each_rank_log",
    "m module no_python no_local_rank no_ssh no_ssh_check save_pid force_multi elastic_training "
    "bind_cores_to_rank h help",
    "H:hostfile i:include e:exclude p:ssh_port",
)
"""deepspeed 0.19 launcher/runner.py."""

ACCELERATE = grammar(
    "config_file mixed_precision num_processes num_machines num_cpu_threads_per_process dynamo_backend "
    "dynamo_mode gpu_ids machine_rank main_process_ip main_process_port tee log_dir role rdzv_backend "
    "rdzv_conf max_restarts monitor_interval vm env main_training_function deepspeed_config_file zero_stage "
    "offload_optimizer_device offload_param_device offload_optimizer_nvme_path offload_param_nvme_path "
    "gradient_accumulation_steps gradient_clipping zero3_init_flag zero3_save_16bit_model deepspeed_hostfile "
    "deepspeed_exclusion_filter deepspeed_inclusion_filter deepspeed_multinode_launcher "
    "deepspeed_moe_layer_cls_names fsdp_version fsdp_offload_params fsdp_min_num_params fsdp_sharding_strategy "
    "fsdp_reshard_after_forward fsdp_auto_wrap_policy fsdp_transformer_layer_cls_to_wrap "
    "fsdp_backward_prefetch fsdp_backward_prefetch_policy fsdp_state_dict_type fsdp_forward_prefetch "
    "fsdp_use_orig_params fsdp_cpu_ram_efficient_loading fsdp_sync_module_states fsdp_activation_checkpointing "
    "megatron_lm_tp_degree megatron_lm_pp_degree megatron_lm_num_micro_batches "
    "megatron_lm_sequence_parallelism megatron_lm_recompute_activations megatron_lm_use_distributed_optimizer "
    "megatron_lm_gradient_clipping fp8_backend fp8_margin fp8_interval fp8_format fp8_amax_history_len "
    "fp8_amax_compute_algo fp8_override_linear_precision fp8_opt_level fp8_enable_fsdp_float8_all_gather "
    "fp8_pad_inner_dim aws_access_key_id aws_secret_access_key mpirun_hostfile mpirun_ccl "
    "parallelism_config_dp_replicate_size parallelism_config_dp_shard_size parallelism_config_tp_size "
    "parallelism_config_cp_size parallelism_config_cp_backend parallelism_config_cp_comm_strategy "
    "parallelism_config_sp_size parallelism_config_sp_backend parallelism_config_sp_seq_length "
    "parallelism_config_sp_seq_length_is_variable parallelism_config_sp_attn_implementation",
    "quiet cpu multi_gpu tpu use_mps_device ipex use_xpu enable_cpu_affinity dynamo_use_fullgraph "
    "dynamo_use_dynamic dynamo_use_regional_compilation use_deepspeed use_fsdp use_parallelism_config "
    "use_megatron_lm same_network module no_python tpu_cluster no_tpu_cluster tpu_use_sudo downcast_bf16 fp16 "
    "bf16 fp8_use_autocast_during_eval debug help",
    "q:quiet m:module t:tee h:help",
)
"""accelerate 1.15 commands/launch.py, and flags of older releases."""

MPI = grammar(
    "n npernode N host hostfile machinefile x map_by bind_to rank_by wdir wd prefix hosts f iface rankfile "
    "output_filename bootstrap genvlist envlist npersocket report_uri l_",
    "oversubscribe allow_run_as_root tag_output q v V display_map report_bindings nolocal l h",
    "np:n c:n H:host ppn:npernode perhost:npernode N:npernode machinefile:hostfile hosts:host rf:rankfile",
    pairs="mca gmca genv env pmixmca prtemca",
    glued="n",
)
"""mpirun and mpiexec of Open MPI, MPICH and Intel MPI."""

SRUN = grammar(
    "nodes ntasks cpus_per_task partition account time job_name output error nodelist exclude gpus qos chdir "
    "constraint dependency distribution clusters input relative slurmd_debug threads_per_core wait "
    "ntasks_per_node ntasks_per_gpu ntasks_per_socket gpus_per_node gpus_per_task gpus_per_socket cpus_per_gpu "
    "gres mem mem_per_cpu mem_per_gpu container_image container_mounts container_workdir container_name "
    "container_env mpi cpu_bind gpu_bind mem_bind export jobid reservation network open_mode signal hint "
    "het_group gpu_freq task_prolog task_epilog tres_per_task wckey licenses nice acctg_freq comment wrap",
    "l label u unbuffered v verbose Q quiet overlap exclusive s oversubscribe no_container_mount_home "
    "container_writable container_remap_root no_container_remap_root no_kill k pty preserve_env H hold X O E "
    "requeue no_requeue spread_job K kill_on_bad_exit parsable",
    "N:nodes n:ntasks c:cpus_per_task p:partition A:account t:time J:job_name o:output e:error w:nodelist "
    "x:exclude G:gpus q:qos D:chdir C:constraint d:dependency m:distribution M:clusters i:input r:relative "
    "T:threads W:wait tasks_per_node:ntasks_per_node",
    glued="NncpAtJoewxGqDCdmMirTWK",
)
"""srun, salloc and sbatch of Slurm 24.05."""

JSRUN = grammar(
    "nrs tasks_per_rs gpu_per_rs cpu_per_rs rs_per_host bind latency_priority smpiargs env launch_distribution",
    "",
    "n:nrs a:tasks_per_rs g:gpu_per_rs c:cpu_per_rs r:rs_per_host b:bind l:latency_priority "
    "d:launch_distribution M:smpiargs E:env",
    glued="nagcrbldME",
)
"""jsrun of Spectrum LSF."""

APRUN = grammar("n N d cc e", "b q", glued="nNd")
"""aprun of Cray ALPS."""

HOROVOD = grammar(
    "num_proc hosts hostfile ssh_port ssh_identity_file output_filename fusion_threshold_mb cycle_time_ms "
    "min_np max_np slots_per_host network_interface host_discovery_script start_timeout config_file",
    "verbose gloo mpi disable_cache autotune",
    "np:num_proc n:num_proc H:hosts p:ssh_port",
)
COMPOSER = grammar(
    "nproc stdout stderr world_size base_rank node_rank master_addr master_port",
    "v verbose module_mode command_mode version h help",
    "n:nproc m:module_mode c:command_mode",
)
"""composer 0.30 cli/launcher.py."""

COLOSSALAI = grammar(
    "nproc_per_node num_nodes host hostfile include exclude master_port master_addr extra_launch_args ssh_port "
    "launcher",
    "m module",
    "H:host i:include e:exclude",
)
FABRIC = grammar(
    "accelerator strategy devices num_nodes node_rank main_address main_port precision", "h help", "num-nodes:num_nodes"
)
"""`fabric run`, `lightning run model` (lightning 2.5 fabric/cli.py)."""

DIST_DDP = grammar(
    "script m image name h cpu gpu memMB j env max_retries rdzv_port rdzv_backend mounts debug tee metadata",
)
"""torchx's component dist.ddp."""

TUNE = TORCHRUN
"""`tune run` takes torchrun's options before the recipe (torchtune 0.6 _cli/run.py)."""

RAY = grammar(
    "address working_dir runtime_env runtime_env_json submission_id job_id entrypoint_num_gpus "
    "entrypoint_num_cpus entrypoint_memory entrypoint_resources metadata_json verify headers log_style "
    "log_color",
    "no_wait verbose v",
)
SKY = grammar(
    "cluster name gpus cloud region zone num_nodes env env_file secret workdir instance_type cpus memory "
    "disk_size disk_tier image_id ports idle_minutes_to_autostop backend infra job_recovery",
    "y yes d detach_run detach_setup s r dryrun down retry_until_up no_setup use_spot no_use_spot async fast",
    "c:cluster n:name i:idle_minutes_to_autostop",
)
DOCKER = grammar(
    "env volume workdir name gpus ipc shm_size network publish user mount memory cpus env_file entrypoint "
    "runtime device ulimit hostname label log_driver log_opt add_host cap_add security_opt restart platform "
    "cpuset_cpus tmpfs attach pull net pid uts group_add cidfile storage_opt userns detach_keys index",
    "rm i t it ti d P detach privileged init interactive tty T no_healthcheck read_only sig_proxy no_deps build",
    "e:env v:volume w:workdir p:publish u:user m:memory h:hostname l:label a:attach",
    glued="evwpumhla",
)
SINGULARITY = grammar(
    "bind home env env_file pwd workdir overlay scratch app dns network hostname apply_cgroups mount security",
    "nv nvccli rocm e cleanenv c contain containall C i ipc p pid f fakeroot u userns writable writable_tmpfs "
    "no_home w no_mount no_privs compat unsquash no_eval",
    "B:bind H:home W:workdir o:overlay S:scratch",
)
UV = grammar(
    "with with_requirements with_editable python extra group package project directory env_file index_url "
    "index extra_index_url default_index find_links refresh_package upgrade_package no_group only_group "
    "no_extra color config_file cache_dir link_mode resolution prerelease python_platform reinstall_package "
    "from",
    "m module isolated no_sync active frozen locked all_extras all_groups no_dev dev only_dev no_project exact "
    "no_env_file n no_cache offline s script gui_script q quiet v verbose U upgrade no_editable inexact "
    "all_packages refresh reinstall no_build_isolation",
    "p:python m:module w:with f:find_links i:index_url P:upgrade_package",
)
CONDA = grammar("name prefix cwd", "no_capture_output live_stream v dev debug_wrapper_scripts s", "n:name p:prefix")
PYTHON = grammar("W X Q", "u O OO B s S E I v q i b d x P", glued="WXQ")
